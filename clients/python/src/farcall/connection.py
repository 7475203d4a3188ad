"""One connection to a server after its handshake, and the calls on it.

The numbers in the comments are the sections of ``docs/PROTOCOL.md``.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from typing import Any, Callable

from .calls import Answer, Outcome, Request, result_of
from .codec import Codec
from .deadline import Deadline, within
from .errors import (
    DeadlineExceeded,
    FarcallError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    refused_by_goaway,
)
from .handshake import Terms
from .slots import Slots
from .stream import FrameStream
from .streams import StreamCall, Streams
from .wire import (
    FLAG_ONE_WAY,
    FLAG_STREAMING,
    MAX_HEADER_BYTES,
    MAX_PINGS,
    PING_WINDOW,
    STREAM_KINDS,
    EndOfStream,
    FrameTooLarge,
    Header,
    ProtocolError,
    WireError,
    frame,
)

#: The time in seconds that a server has to close after its goaway and its last answer.
CLOSE_AFTER_GOAWAY = 5.0
#: The unsent bytes that the operating system takes where items are sent.
MAX_UNSENT = 128 * 1024


class Connection:
    """Calls methods until the stream ends.  The owner must close it."""

    def __init__(
        self,
        stream: FrameStream,
        codec: Codec,
        terms: Terms,
        *,
        max_frame_bytes: int,
        max_waiting: int,
        ping_after: float,
        ping_timeout: float,
        stream_window: int,
        max_stream_window: int,
        max_stream_growth: int,
        on_shut: Callable[[Connection], None],
        on_end: Callable[[Connection], None],
    ) -> None:
        self.terms = terms
        #: The reason for refusing new calls; None while the connection accepts them.
        self.close_reason: str | None = None
        self._stream = stream
        self._codec = codec
        self._max_frame_bytes = max_frame_bytes
        self._ping_after = ping_after
        self._ping_timeout = ping_timeout
        self._on_shut = on_shut
        self._on_end = on_end
        self._began = time.monotonic()
        self._slots = Slots(terms.max_in_flight, max_waiting)
        #: The streaming calls; None if the server does not stream.
        self._streams: Streams | None = None
        if terms.max_streams is not None:
            self._streams = Streams(
                stream,
                codec,
                terms,
                window=stream_window,
                max_window=max_stream_window,
                max_growth=max_stream_growth,
                max_waiting=max_waiting,
            )
        self._last_seq = 0
        # Calls by number; None for cancelled calls.  Bounded by the slots.
        self._calls: dict[int, asyncio.Future[Outcome] | None] = {}
        self._last_ping = 0
        # Bounded by the pings that may be sent within their timeouts.
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._pings_sent: collections.deque[float] = collections.deque(maxlen=MAX_PINGS // 2)
        self._pings_received: collections.deque[float] = collections.deque(maxlen=MAX_PINGS + 1)
        self._goaway_sent = False
        self._ended = False
        self._reader = asyncio.ensure_future(self._read())
        self._watch = asyncio.ensure_future(self._keep_alive())

    @property
    def is_open(self) -> bool:
        """True if it accepts new calls."""
        return self.close_reason is None

    @property
    def in_flight(self) -> int:
        """The number of calls in flight, including cancelled ones without an answer (5.3)."""
        return len(self._calls) + (len(self._streams) if self._streams else 0)

    @property
    def age(self) -> float:
        """The seconds since its handshake."""
        return time.monotonic() - self._began

    async def call(self, request: Request) -> Any:
        """Sends a request, and returns the decoded result or raises `FarcallError`."""
        seq = await self._send_request(request, self._slots)
        # No await between writing and here, so that an answer finds its call.
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._calls[seq] = waiting
        try:
            await asyncio.wait({waiting}, timeout=request.deadline.left)
        except asyncio.CancelledError:
            self._abandon(seq)
            raise
        if not waiting.done():
            self._abandon(seq)
            raise request.deadline.exceeded("maybe")
        outcome = waiting.result()
        if isinstance(outcome, FarcallError):
            raise outcome
        return result_of(self._codec, outcome)

    async def notify(self, request: Request) -> None:
        """Sends a one-way request, which has no answer (7).

        Returns when it is handed to the operating system: nothing else would tell that it was lost.
        """
        request.flags |= FLAG_ONE_WAY
        await self._send_request(request, self._slots)
        self._slots.release()
        await self.flush(request.deadline)

    async def open_stream(self, request: Request, *, receives: bool, sends: bool) -> StreamCall:
        """Sends a streaming request, and returns the call, which has begun."""
        streams = self._streams
        if streams is None:
            raise Unimplemented("the server has not agreed on streams in the handshake")
        if self.terms.max_streams == 0:
            raise ResourceExhausted("the server runs no streaming calls (its max_streams is 0)")
        request.flags |= FLAG_STREAMING
        seq = await self._send_request(request, streams.slots)
        # No await between writing and here, as in `call`.
        if sends:
            self._stream.limit_unsent(MAX_UNSENT)
        return streams.begin(seq, receives=receives, sends=sends)

    async def flush(self, deadline: Deadline) -> None:
        """Waits until all that was sent is handed to the operating system."""
        try:
            await within(deadline.left, self._stream.flush())
        except asyncio.TimeoutError:
            raise deadline.exceeded("maybe") from None
        except OSError as error:
            raise Unavailable(self.close_reason or str(error), "maybe") from error

    async def ping(self, timeout: float | None) -> float:
        """Pings the server, and returns the seconds until its pong.

        It waits first if many pings were sent lately, because servers limit their rate.
        """
        await self._wait_to_ping()
        if self._ended:
            raise Unavailable(self.close_reason or "")
        started = time.monotonic()
        number = self._send_ping()
        pong = self._pings[number] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({pong}, timeout=timeout)
        finally:
            self._pings.pop(number, None)
        if self._ended:
            raise Unavailable(self.close_reason or "", "maybe")
        if not pong.done():
            raise DeadlineExceeded(f"no pong within {timeout:g} s", "maybe")
        return time.monotonic() - started

    async def close(self, timeout: float | None) -> None:
        """Accepts no new calls, waits for the answers to the others, and closes (5.5)."""
        self._send_goaway("the client was closed")
        done, _ = await asyncio.wait({self._reader}, timeout=timeout)
        if not done:
            self._end("the client was closed before all was answered")
        await asyncio.gather(self._reader, self._watch, return_exceptions=True)
        await self._stream.wait_closed()

    def orphan(self) -> None:
        """Forgets the connection, whose event loop does not run any more."""
        self._ended = True
        self.close_reason = self.close_reason or "its event loop has ended"

    def abort(self) -> None:
        """Closes at once.  Calls in flight end as ``unavailable``, ``maybe``."""
        self._end("the client was closed")
        self._stream.abort()

    # Sending

    async def _send_request(self, request: Request, slots: Slots) -> int:
        """Acquires a slot, and writes the request.  If it raises, nothing was written."""
        await slots.acquire(request.deadline)
        try:
            if self._stream.is_full:
                await self._make_room(request.deadline)
            return self._write_request(request)
        except BaseException:
            slots.release()
            raise

    async def _make_room(self, deadline: Deadline) -> None:
        try:
            with contextlib.suppress(OSError):  # the reader reports the error
                await within(deadline.left, self._stream.flush())
        except asyncio.TimeoutError:
            raise deadline.exceeded("not_sent") from None

    def _write_request(self, request: Request) -> int:
        if self.close_reason is not None:
            raise Unavailable(self.close_reason)
        seq = self._last_seq + 1
        if seq > self._codec.max_seq:
            self._send_goaway("its numbers are used up")
            raise Unavailable(self.close_reason or "")
        timeout_ms = request.deadline.timeout_ms()
        header = Header(
            "request", seq, request.method, timeout_ms, None, request.metadata, request.flags
        )
        try:
            data = self._codec.encode_header(header)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidArgument(f"the header: {error}") from error
        most = self.terms.max_frame_bytes
        _check_size("header", data, min(MAX_HEADER_BYTES, most))
        _check_size("arguments", request.body, most)
        self._last_seq = seq
        self._stream.write(frame(data) + frame(request.body))
        return seq

    def _send(self, header: Header) -> None:
        if not self._ended:
            self._stream.write(frame(self._codec.encode_header(header)) + frame(b""))

    def _abandon(self, seq: int) -> None:
        """Cancels a call; its slot is released when it is answered (5.3)."""
        if seq in self._calls:
            self._calls[seq] = None
            self._send(Header("cancel", seq))

    def _shut(self, why: str) -> None:
        if self.close_reason is None:
            self.close_reason = why
            self._slots.close(why)
            if self._streams is not None:
                self._streams.close(why)
            self._on_shut(self)

    def _send_goaway(self, why: str, error: WireError | None = None) -> None:
        self._shut(why)
        if not self._goaway_sent:
            self._goaway_sent = True
            self._send(Header("goaway", self._last_seq, error=error))

    # Receiving

    async def _read(self) -> None:
        why = "it was cut"
        try:
            while True:
                header, body = await self._stream.read_message(self._max_frame_bytes)
                self._handle(self._codec.decode_header(header), body)
        except EndOfStream as end:
            why = "the server closed it" if end.clean else str(end)
        except FrameTooLarge as error:
            why = f"the server sent {error}"
            self._send_goaway(why, WireError("resource_exhausted", str(error), "maybe"))
        except ProtocolError as error:
            why = f"the server broke the protocol: {error}"
        except OSError as error:
            why = str(error)
        finally:
            # An earlier goaway is more informative than the end of the stream.
            self._end(self.close_reason or f"the connection was lost: {why}")

    def _handle(self, header: Header, body: bytes) -> None:
        streams = self._streams
        if header.kind == "response":
            if header.seq in self._calls:
                self._settle(header.seq, Answer(header, body))
                self._close_if_drained()
            elif streams is not None and streams.settle(header.seq, Answer(header, body)):
                self._close_if_drained()
        elif streams is not None and header.kind in STREAM_KINDS and header.kind != "end":
            streams.handle(header, body)
        elif header.kind == "ping":
            now = time.monotonic()
            self._pings_received.append(now)
            pings = self._pings_received
            if len(pings) > MAX_PINGS and now - pings[0] < PING_WINDOW:
                raise ProtocolError("too many pings")
            self._send(Header("pong", header.seq))
        elif header.kind == "pong":
            pong = self._pings.get(header.seq)
            if pong is not None and not pong.done():
                pong.set_result(None)
        elif header.kind == "goaway":
            error = header.error or WireError("unavailable", "it takes no more calls", "maybe")
            why = f"the server said goaway: {error.message} ({error.code})"
            self._shut(why)
            for seq in [seq for seq in self._calls if seq > header.seq]:
                self._settle(seq, refused_by_goaway(why))
            if streams is not None:
                streams.drain(header.seq, why)
            self._close_if_drained()
        else:
            raise ProtocolError(f"a server does not send a message of kind {header.kind} here")

    def _settle(self, seq: int, outcome: Outcome) -> None:
        waiting = self._calls.pop(seq)
        self._slots.release()
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def _close_if_drained(self) -> None:
        """Ends the connection if the server does not close it after a goaway."""
        if self.close_reason is not None and not self.in_flight and not self._ended:
            why = self.close_reason
            asyncio.get_running_loop().call_later(CLOSE_AFTER_GOAWAY, self._end, why)

    # Keeping it alive (13)

    async def _keep_alive(self) -> None:
        while True:
            silence = time.monotonic() - self._stream.last_received
            if silence < self._ping_after:
                await asyncio.sleep(self._ping_after - silence)
                continue
            await self._wait_to_ping()
            if not await self._is_answered():
                self._end("the connection was lost: the server has fallen silent")
                self._stream.abort()
                return

    async def _is_answered(self) -> bool:
        """Pings the server, and returns False if nothing is received in time."""
        stream = self._stream
        sent, before, taken = time.monotonic(), stream.written, stream.taken
        self._send_ping()
        while True:
            await asyncio.sleep(self._ping_timeout)
            if stream.last_received >= sent:
                return True
            # A ping waits behind what was written before it, such as a large request on a slow
            # link.  While the operating system takes some of that, the time begins again.
            earlier, taken = taken, stream.taken
            if not earlier < min(before, taken):
                return False

    async def _wait_to_ping(self) -> None:
        while len(self._pings_sent) == self._pings_sent.maxlen:
            wait = self._pings_sent[0] + PING_WINDOW - time.monotonic()
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    def _send_ping(self) -> int:
        self._last_ping += 1
        self._pings_sent.append(time.monotonic())
        self._send(Header("ping", self._last_ping))
        return self._last_ping

    # The end

    def _end(self, why: str) -> None:
        """Ends the connection and fails all waiting callers."""
        if self._ended:
            return
        self._ended = True
        self._shut(why)
        for seq in list(self._calls):
            self._settle(seq, Unavailable(why, "maybe"))
        if self._streams is not None:
            self._streams.end(why)
        for pong in self._pings.values():
            if not pong.done():
                pong.set_result(None)
        self._stream.close()
        # One of these may be the current task.
        for task in (self._reader, self._watch):
            if task is not _current_task():
                task.cancel()
        self._on_end(self)


def _current_task() -> asyncio.Task[Any] | None:
    """Returns the current task; None in a callback of a timer."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _check_size(what: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise ResourceExhausted(
            f"{what} of {len(data)} bytes, over the server's limit of {limit} bytes (its max_frame_bytes)"
        )
