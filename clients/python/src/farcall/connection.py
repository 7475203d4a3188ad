"""One connection to a server, behind its handshake, and the calls on it.

The numbers in the comments are the sections of ``docs/PROTOCOL.md``.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Union

from .codec import Codec
from .deadline import Deadline, within
from .errors import (
    DeadlineExceeded,
    FarcallError,
    InternalError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from .handshake import Terms
from .places import Places
from .stream import FrameStream
from .wire import (
    FLAG_COMPRESSED,
    FLAG_ONE_WAY,
    MAX_HEADER_BYTES,
    MAX_PINGS,
    PING_WINDOW,
    EndOfStream,
    FrameTooLarge,
    Header,
    ProtocolError,
    WireError,
    frame,
)

#: How long a server may take to close, in seconds, once it sent a goaway and answered.
CLOSE_AFTER_GOAWAY = 5.0


@dataclass
class Request:
    """What is to be called."""

    method: str
    body: bytes
    deadline: Deadline
    metadata: dict[str, str] | None
    flags: int


class Answer(NamedTuple):
    """The response to a call."""

    header: Header
    body: bytes


Outcome = Union[Answer, FarcallError]


class Connection:
    """Calls methods until the stream ends.  Its owner must see to it that it is closed."""

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
        on_end: Callable[[Connection], None],
    ) -> None:
        self.terms = terms
        #: Why there are no new calls here; None as long as there are.
        self.why_shut: str | None = None
        self._stream = stream
        self._codec = codec
        self._max_frame_bytes = max_frame_bytes
        self._ping_after = ping_after
        self._ping_timeout = ping_timeout
        self._on_end = on_end
        self._began = time.monotonic()
        self._places = Places(terms.max_in_flight, max_waiting)
        self._last_seq = 0
        # Calls by number; None where nobody waits any more.  Bounded by the places.
        self._calls: dict[int, asyncio.Future[Outcome] | None] = {}
        self._last_ping = 0
        # Bounded by the pings that may be sent within their timeouts.
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._pings_sent: collections.deque[float] = collections.deque(maxlen=MAX_PINGS // 2)
        self._pings_heard: collections.deque[float] = collections.deque(maxlen=MAX_PINGS + 1)
        self._said_goodbye = False
        self._ended = False
        self._reader = asyncio.ensure_future(self._read())
        self._watch = asyncio.ensure_future(self._keep_alive())

    @property
    def is_open(self) -> bool:
        """Whether it takes new calls."""
        return self.why_shut is None

    @property
    def in_flight(self) -> int:
        """How many calls hold a place; the cancelled but unanswered ones do, too (5.3)."""
        return len(self._calls)

    @property
    def age(self) -> float:
        """The seconds since its handshake."""
        return time.monotonic() - self._began

    async def call(self, request: Request) -> Any:
        """Sends a request, and returns the decoded result or raises `FarcallError`."""
        seq = await self._send_request(request)
        # No await from the writing on to here: an answer finds its call.
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
        return self._result(outcome)

    async def notify(self, request: Request) -> None:
        """Sends a one-way request, of which nothing is heard again (7)."""
        request.flags |= FLAG_ONE_WAY
        await self._send_request(request)
        self._places.give_back()

    async def ping(self, timeout: float) -> float:
        """Pings the server, and returns the seconds until its pong.

        It waits first if many pings went out lately, since a server bears only so many.
        """
        await self._wait_to_ping()
        if self._ended:
            raise Unavailable(self.why_shut or "")
        started = time.monotonic()
        number = self._send_ping()
        pong = self._pings[number] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({pong}, timeout=timeout)
        finally:
            self._pings.pop(number, None)
        if self._ended:
            raise Unavailable(self.why_shut or "", "maybe")
        if not pong.done():
            raise DeadlineExceeded(f"no pong within {timeout:g} s", "maybe")
        return time.monotonic() - started

    async def close(self, timeout: float) -> None:
        """Takes no new calls, lets the server answer the others, and closes (5.5)."""
        self._say_goodbye("the client was closed")
        done, _ = await asyncio.wait({self._reader}, timeout=timeout)
        if not done:
            self._end("the client was closed before all was answered")
        await asyncio.gather(self._reader, self._watch, return_exceptions=True)
        await self._stream.wait_closed()

    def abort(self) -> None:
        """Closes at once.  Calls in flight end as ``unavailable``, ``maybe``."""
        self._end("the client was closed")
        self._stream.abort()

    # Sending

    async def _send_request(self, request: Request) -> int:
        """Takes a place, and writes the request.  If it raises, nothing was written."""
        await self._places.take(request.deadline)
        try:
            if self._stream.is_full:
                await self._flush(request.deadline)
            return self._write_request(request)
        except BaseException:
            self._places.give_back()
            raise

    async def _flush(self, deadline: Deadline) -> None:
        try:
            with contextlib.suppress(OSError):  # the reader finds out what is wrong
                await within(deadline.left, self._stream.flush())
        except asyncio.TimeoutError:
            raise deadline.exceeded("not_sent") from None

    def _write_request(self, request: Request) -> int:
        if self.why_shut is not None:
            raise Unavailable(self.why_shut)
        seq = self._last_seq + 1
        if seq > self._codec.max_seq:
            self._say_goodbye("its numbers are used up")
            raise Unavailable(self.why_shut or "")
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
        """Nobody waits for this call; its place is free when it is answered (5.3)."""
        if seq in self._calls:
            self._calls[seq] = None
            self._send(Header("cancel", seq))

    def _shut(self, why: str) -> None:
        if self.why_shut is None:
            self.why_shut = why
            self._places.close(why)

    def _say_goodbye(self, why: str, error: WireError | None = None) -> None:
        self._shut(why)
        if not self._said_goodbye:
            self._said_goodbye = True
            self._send(Header("goaway", self._last_seq, error=error))

    # Receiving

    async def _read(self) -> None:
        why = "it was cut"
        try:
            while True:
                header, body = await self._stream.read_message(self._max_frame_bytes)
                self._take(self._codec.decode_header(header), body)
        except EndOfStream as end:
            why = "the server closed it" if end.clean else str(end)
        except FrameTooLarge as error:
            why = f"the server sent {error}"
            self._say_goodbye(why, WireError("resource_exhausted", str(error), "maybe"))
        except ProtocolError as error:
            why = f"the server broke the protocol: {error}"
        except OSError as error:
            why = str(error)
        finally:
            # A goaway that came before says more than the end of the stream.
            self._end(self.why_shut or f"the connection was lost: {why}")

    def _take(self, header: Header, body: bytes) -> None:
        if header.kind == "response":
            if header.seq in self._calls:
                self._settle(header.seq, Answer(header, body))
                self._close_if_drained()
        elif header.kind == "ping":
            now = time.monotonic()
            self._pings_heard.append(now)
            if len(self._pings_heard) > MAX_PINGS and now - self._pings_heard[0] < PING_WINDOW:
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
                self._settle(seq, Unavailable(why, "refused"))
            self._close_if_drained()
        else:
            raise ProtocolError(f"a server does not send a {header.kind}")

    def _settle(self, seq: int, outcome: Outcome) -> None:
        waiting = self._calls.pop(seq)
        self._places.give_back()
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def _result(self, answer: Answer) -> Any:
        """What a response means to its caller."""
        header, body = answer
        value, fault = None, None
        if header.flags & FLAG_COMPRESSED:
            fault = "the body is compressed, which was not agreed on"
        elif body:
            try:
                value = self._codec.decode(body)
            except ValueError as error:
                fault = f"the body of the response is {error}"
        if header.error is not None:
            raise header.error.raised(value, header.metadata)
        if fault is not None:
            raise InternalError(fault, "done", metadata=header.metadata)
        return value

    def _close_if_drained(self) -> None:
        """A server that said goaway and has answered closes; one that does not is left."""
        if self.why_shut is not None and not self._calls and not self._ended:
            why = self.why_shut
            asyncio.get_running_loop().call_later(CLOSE_AFTER_GOAWAY, self._end, why)

    # Keeping it alive (13)

    async def _keep_alive(self) -> None:
        while True:
            silence = time.monotonic() - self._stream.last_heard
            if silence < self._ping_after:
                await asyncio.sleep(self._ping_after - silence)
                continue
            await self._wait_to_ping()
            sent = time.monotonic()
            self._send_ping()
            await asyncio.sleep(self._ping_timeout)
            if self._stream.last_heard < sent:
                self._end("the connection was lost: the server has fallen silent")
                self._stream.abort()
                return

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
        """The stream is over, and all who wait are told."""
        if self._ended:
            return
        self._ended = True
        self._shut(why)
        for seq in list(self._calls):
            self._settle(seq, Unavailable(why, "maybe"))
        for pong in self._pings.values():
            if not pong.done():
                pong.set_result(None)
        self._stream.close()
        # Either of these may be the one that runs this.
        for task in (self._reader, self._watch):
            if task is not _current_task():
                task.cancel()
        self._on_end(self)


def _current_task() -> asyncio.Task[Any] | None:
    """The task that runs, or none, as in a callback of a timer."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _check_size(what: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise ResourceExhausted(f"{what} of {len(data)} bytes, where the server takes {limit}")
