"""An asyncio client for the farcall wire protocol, version 1.

It was written from ``docs/PROTOCOL.md`` alone, and the section numbers in the comments
are those of that document.  It needs Python 3.9 and the ``msgpack`` package.

    client = await connect("tcp@127.0.0.1:7001")
    print(await client.call("Arith.multiply", {"a": 6, "b": 7}, timeout=0.5))
    await client.close()

A call that fails raises `RpcError`, which says with a code what happened and with an
execution whether the work may have been done.

Not spoken: compression, streams, and the openings other than ``tcp`` and ``unix``.

`RawConnection` is the layer below: frames and bytes, for whoever wants to send exactly
those.  It checks nothing on the way out.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import json
import math
import time
from dataclasses import dataclass
from typing import Any, Deque, Dict, NamedTuple, Optional, Tuple, Union

import msgpack

MAGIC_NUMBER = 0xCAFEBABE
VERSION = 1

MSGPACK = "application/msgpack"
JSON = "application/json"

MAX_OPTION_BYTES = 4 * 1024
MAX_HEADER_BYTES = 64 * 1024
DEFAULT_MAX_FRAME_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_IN_FLIGHT = 1024

MAX_PINGS = 10
PING_WINDOW = 5.0

FLAG_COMPRESSED = 1
FLAG_ONE_WAY = 2
FLAG_IDEMPOTENT = 4

KINDS = {"request": 1, "response": 2, "cancel": 3, "ping": 4, "pong": 5, "goaway": 6}

CODES = {
    "cancelled": 1,
    "deadline_exceeded": 2,
    "invalid_argument": 3,
    "unauthenticated": 4,
    "unimplemented": 5,
    "permission_denied": 6,
    "resource_exhausted": 7,
    "unavailable": 8,
    "internal": 9,
    "application": 10,
}

# `not_sent` is missing here because it never travels.
EXECUTIONS = {"done": 0, "refused": 1, "maybe": 2}

_KIND_NAMES = {number: name for name, number in KINDS.items()}
_CODE_NAMES = {number: name for name, number in CODES.items()}
_EXECUTION_NAMES = {number: name for name, number in EXECUTIONS.items()}


# ------------------------------------------------------------------------------ errors


def safe_text(text: str, limit: int = 1024) -> str:
    """Text from a peer, cut and escaped, so that it may be printed (section 11.4)."""
    cut = text.encode("utf-8", "backslashreplace")[:limit].decode("utf-8", "ignore")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut
    )


class RpcError(Exception):
    """The failure of one call.

    ``code`` and ``execution`` are names as in section 11 (or ``not_sent``).  ``message``
    is the peer's text as it came; ``str()`` of the error is fit to be printed.
    ``details`` is the decoded body of the response; for the code ``application`` it is
    the error value that the method returned.
    """

    def __init__(
        self,
        code: str,
        message: str,
        execution: str,
        details: Any = None,
        metadata: Optional[Dict[str, str]] = None,
    ):
        super().__init__(code, message, execution)
        self.code = code
        self.message = message
        self.execution = execution
        self.details = details
        self.metadata = metadata or {}

    def __str__(self) -> str:
        return f"{self.code} ({self.execution}): {safe_text(self.message)}"

    @property
    def retry_after(self) -> Optional[float]:
        """How many seconds the server asks to wait before another try, if it does."""
        value = self.metadata.get("farcall-retry-after-ms", "")
        return int(value) / 1000 if value.isascii() and value.isdigit() else None


class ConnectError(RpcError):
    """The handshake failed.  ``option`` is what the server answered, if it did."""

    def __init__(self, code: str, message: str, option: Optional[dict] = None):
        super().__init__(code, message, "not_sent")
        self.option = option or {}


class ProtocolError(Exception):
    """The peer does not keep to the protocol (section 12)."""


class FrameTooLarge(Exception):
    """The peer announced a frame over the limit (section 2)."""

    def __init__(self, length: int, limit: int):
        super().__init__(f"a frame of {length} bytes, where {limit} are allowed")
        self.length = length
        self.limit = limit


class EndOfStream(Exception):
    """The stream ended.  ``clean`` is true if it did so between two messages."""

    def __init__(self, clean: bool):
        super().__init__("the stream ended" if clean else "the stream ended in a frame")
        self.clean = clean


# ----------------------------------------------------------------- headers and codecs


class WireError(NamedTuple):
    """The `error` field of a header, with code and execution by name."""

    code: str
    message: str
    execution: str


@dataclass
class Header:
    """A header (section 4.2).

    ``kind`` is a name from `KINDS`.  Whatever else stands there is written as it is, so
    that a test can send a kind that does not exist.
    """

    kind: Union[str, int]
    seq: int
    service_method: str = ""
    timeout_ms: int = 0
    error: Optional[WireError] = None
    metadata: Optional[Dict[str, str]] = None
    flags: int = 0


def _uint(value: Any, name: str, bits: int = 64) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one sort of number
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtocolError(f"header: {name} is not an integer")
    if not 0 <= value < 1 << bits:
        raise ProtocolError(f"header: {name} is out of range")
    return value


def _checked_header(
    kind: Any,
    seq: Any,
    service_method: Any,
    timeout_ms: Any,
    error: Optional[WireError],
    metadata: Any,
    flags: Any,
) -> Header:
    """A header from decoded fields, where None stands for a default."""
    service_method = "" if service_method is None else service_method
    if not isinstance(service_method, str):
        raise ProtocolError("header: service_method is not a string")
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(
            isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()
        ):
            raise ProtocolError("header: metadata is not a map of strings")
    return Header(
        kind=kind,
        seq=_uint(seq, "seq"),
        service_method=service_method,
        timeout_ms=0 if timeout_ms is None else _uint(timeout_ms, "timeout_ms"),
        error=error,
        metadata=metadata,
        flags=0 if flags is None else _uint(flags, "flags"),
    )


def _checked_error(code: Any, message: Any, execution: Any) -> WireError:
    """An error from decoded parts; None stands for an unknown code or execution."""
    return WireError(
        "internal" if code is None else code,
        message if isinstance(message, str) else "",
        "maybe" if execution is None else execution,
    )


def _known(table: Dict[Any, Any], key: Any) -> Any:
    """What the table has for the key, or None, whatever the key may be."""
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        return None
    return table.get(key)


class MsgpackCodec:
    """Headers as arrays, bytes as bin."""

    name = MSGPACK
    max_seq = (1 << 64) - 1

    def encode_header(self, header: Header) -> bytes:
        error = header.error
        fields = [
            KINDS.get(header.kind, header.kind),
            header.seq,
            header.service_method,
            header.timeout_ms,
            error and [CODES[error.code], error.message, EXECUTIONS[error.execution]],
            header.metadata or None,
            header.flags,
        ]
        defaults = [object(), object(), "", 0, None, None, 0]
        while fields[-1] == defaults[len(fields) - 1]:
            fields.pop()
        return msgpack.packb(fields, use_bin_type=True)

    def decode_header(self, data: bytes) -> Header:
        try:
            fields = self.decode_body(data)
        except ValueError as e:
            raise ProtocolError(f"header: {e}") from None
        if not isinstance(fields, list) or len(fields) < 2:
            raise ProtocolError("header: not an array of two or more")
        fields = (fields + [None] * 5)[:7]
        kind = _known(_KIND_NAMES, fields[0])
        if kind is None:
            raise ProtocolError("header: unknown kind")
        error = fields[4]
        if error is not None:
            if not isinstance(error, list):
                raise ProtocolError("header: error is not an array")
            code, message, execution = (error + [None] * 3)[:3]
            fields[4] = _checked_error(
                _known(_CODE_NAMES, code), message, _known(_EXECUTION_NAMES, execution)
            )
        return _checked_header(kind, *fields[1:])

    def encode_body(self, value: Any) -> bytes:
        return msgpack.packb(value, use_bin_type=True)

    def decode_body(self, data: bytes) -> Any:
        """The one value in ``data``; ValueError if it is not exactly one."""
        try:
            return msgpack.unpackb(data, raw=False, strict_map_key=False)
        except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as e:
            raise ValueError(f"not a MessagePack value: {type(e).__name__}") from None

    def to_bytes(self, value: Any) -> bytes:
        """The bytes that a decoded value of the type `bytes` stands for."""
        if not isinstance(value, bytes):
            raise ValueError("not bytes")
        return value


class JsonCodec:
    """Headers as objects, bytes as base64 strings."""

    name = JSON
    max_seq = (1 << 53) - 1

    def encode_header(self, header: Header) -> bytes:
        error = header.error
        fields = {"kind": header.kind, "seq": header.seq}
        if header.service_method:
            fields["service_method"] = header.service_method
        if header.timeout_ms:
            fields["timeout_ms"] = header.timeout_ms
        if error:
            fields["error"] = error._asdict()
        if header.metadata:
            fields["metadata"] = header.metadata
        if header.flags:
            fields["flags"] = header.flags
        return self.encode_body(fields)

    def decode_header(self, data: bytes) -> Header:
        try:
            fields = self.decode_body(data)
        except ValueError as e:
            raise ProtocolError(f"header: {e}") from None
        if not isinstance(fields, dict):
            raise ProtocolError("header: not an object")
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ProtocolError("header: unknown kind")
        error = fields.get("error")
        if error is not None:
            if not isinstance(error, dict):
                raise ProtocolError("header: error is not an object")
            code, execution = error.get("code"), error.get("execution")
            error = _checked_error(
                code if _known(CODES, code) is not None else None,
                error.get("message"),
                execution if _known(EXECUTIONS, execution) is not None else None,
            )
        _uint(fields.get("seq"), "seq", bits=53)
        return _checked_header(
            kind,
            fields.get("seq"),
            fields.get("service_method"),
            fields.get("timeout_ms"),
            error,
            fields.get("metadata"),
            fields.get("flags"),
        )

    @staticmethod
    def _special(value: Any) -> str:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return base64.b64encode(value).decode("ascii")
        raise TypeError(f"{type(value).__name__} has no form in JSON")

    def encode_body(self, value: Any) -> bytes:
        text = json.dumps(
            value,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=self._special,
        )
        return text.encode("utf-8")

    def decode_body(self, data: bytes) -> Any:
        """The one value in ``data``; ValueError if it is not exactly one."""
        try:
            return json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as e:
            raise ValueError(f"not a JSON value: {type(e).__name__}") from None

    def to_bytes(self, value: Any) -> bytes:
        """The bytes that a decoded value of the type `bytes` stands for."""
        if not isinstance(value, str):
            raise ValueError("not a base64 string")
        return base64.b64decode(value, validate=True)


Codec = Union[MsgpackCodec, JsonCodec]

CODECS: Dict[str, Codec] = {MSGPACK: MsgpackCodec(), JSON: JsonCodec()}


# ------------------------------------------------------------------- frames and stream


def frame(payload: bytes) -> bytes:
    """The payload with its length in front of it (section 2)."""
    return len(payload).to_bytes(4, "big") + payload


def message(codec: Codec, header: Header, body: bytes = b"") -> bytes:
    """The two frames of a message (section 4.1)."""
    return frame(codec.encode_header(header)) + frame(body)


def parse_address(address: str) -> Tuple[str, Any]:
    """``("tcp", (host, port))`` or ``("unix", path)`` (section 15)."""
    scheme, at, where = address.partition("@")
    if not at:
        scheme, where = "tcp", address
    if scheme == "unix":
        if not where:
            raise ValueError(f"no path in the address {address!r}")
        return scheme, where
    if scheme != "tcp":
        raise ValueError(f"the scheme {scheme!r} is not known here")
    host, _, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address stands in brackets: {address!r}")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"not host:port in the address {address!r}")
    return scheme, (host, int(port))


class RawConnection:
    """A stream of frames.  No rule of the protocol is enforced on what is written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._header: Optional[bytes] = None
        self._flushing = asyncio.Lock()  # older streams allow one drain() at a time
        self.last_heard = time.monotonic()

    @classmethod
    async def open(cls, address: str) -> "RawConnection":
        scheme, where = parse_address(address)
        if scheme == "unix":
            return cls(*await asyncio.open_unix_connection(where))
        return cls(*await asyncio.open_connection(*where))

    # Writing.  `write` never waits: what one call of it is given stays together.

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def write_frame(self, payload: bytes) -> None:
        self.write(frame(payload))

    async def flush(self) -> None:
        """Waits until the stream wants more."""
        async with self._flushing:
            await self._writer.drain()

    def write_eof(self) -> None:
        """Closes this side's half of the stream."""
        self._writer.write_eof()

    # Reading.  A reader that is cancelled loses nothing.

    async def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            data = await self._reader.read(64 * 1024)
            if not data:
                raise EndOfStream(not self._buffer and self._header is None)
            self.last_heard = time.monotonic()
            self._buffer += data

    async def read_frame(self, limit: int = DEFAULT_MAX_FRAME_BYTES) -> bytes:
        await self._need(4)
        length = int.from_bytes(self._buffer[:4], "big")
        if length > limit:
            raise FrameTooLarge(length, limit)
        await self._need(4 + length)
        payload = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return payload

    async def read_message(
        self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    ) -> Tuple[bytes, bytes]:
        """The header and the body of the next message, as they came."""
        if self._header is None:
            self._header = await self.read_frame(min(MAX_HEADER_BYTES, max_frame_bytes))
        body = await self.read_frame(max_frame_bytes)
        header, self._header = self._header, None
        return header, body

    # The handshake (section 3).

    async def handshake(self, option: Dict[str, Any]) -> Dict[str, Any]:
        """Sends an Option and returns the server's, or raises `ConnectError`."""
        self.write_frame(JsonCodec().encode_body(option))
        return await self.read_option()

    async def read_option(self) -> Dict[str, Any]:
        """The server's Option, or `ConnectError` if it is a refusal."""
        answer = JsonCodec().decode_body(await self.read_frame(MAX_OPTION_BYTES))
        if not isinstance(answer, dict):
            raise ValueError("the server's Option is not an object")
        error = answer.get("error")
        if error is not None:
            error = error if isinstance(error, dict) else {}
            code, text = error.get("code"), error.get("message")
            raise ConnectError(
                code if _known(CODES, code) is not None else "internal",
                text if isinstance(text, str) else "",
                answer,
            )
        return answer

    # The end.

    def close(self) -> None:
        """Closes the stream once what was written has gone out."""
        self._writer.close()

    def abort(self) -> None:
        """Closes the stream at once."""
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


# ------------------------------------------------------------------------------ client


class _Call:
    """An entry in the table of calls.  Without a future, nobody waits any more."""

    __slots__ = ("future",)

    def __init__(self, future: "Optional[asyncio.Future[Any]]"):
        self.future = future

    def settle(self, outcome: Any) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(outcome)


def _time_is_up() -> RpcError:
    return RpcError("deadline_exceeded", "no time was left to send it", "not_sent")


class Client:
    """A connection with its calls.  `connect` makes one.

    Any number of tasks may call at the same time.  Calls past the server's
    ``max_in_flight`` wait here for a place.
    """

    def __init__(
        self,
        raw: RawConnection,
        codec: Codec,
        option: Dict[str, Any],
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        ping_after: float = 10.0,
        ping_timeout: float = 5.0,
    ):
        self.raw = raw
        self.codec = codec
        #: The server's Option.
        self.option = option
        #: The largest frame that the server accepts, and that this side accepts.
        self.peer_max_frame_bytes = option.get("max_frame_bytes") or DEFAULT_MAX_FRAME_BYTES
        self.max_frame_bytes = max_frame_bytes
        self.max_in_flight = option.get("max_in_flight") or DEFAULT_MAX_IN_FLIGHT
        #: The server's goaway, when it has come.
        self.goaway: Optional[Header] = None
        self._ping_after = ping_after
        self._ping_timeout = ping_timeout
        self._last_seq = 0
        self._calls: Dict[int, _Call] = {}
        self._queue: "Deque[asyncio.Future[None]]" = collections.deque()
        self._last_ping = 0
        self._pings: "Dict[int, asyncio.Future[None]]" = {}
        self._pings_sent: Deque[float] = collections.deque(maxlen=MAX_PINGS // 2)
        self._pings_heard: Deque[float] = collections.deque(maxlen=MAX_PINGS + 1)
        self._leaving = False
        self._ended: Optional[str] = None
        self._reader = asyncio.ensure_future(self._read())
        self._watch = asyncio.ensure_future(self._keep_alive())

    # ---- what callers use

    @property
    def in_flight(self) -> int:
        """How many calls hold a place, the cancelled but unanswered ones included."""
        return len(self._calls)

    @property
    def closed(self) -> bool:
        """Whether the stream has ended."""
        return self._ended is not None

    async def call(
        self,
        method: str,
        args: Any = None,
        timeout: Optional[float] = None,
        metadata: Optional[Dict[str, str]] = None,
        idempotent: bool = False,
    ) -> Any:
        """Calls ``method`` and returns its result, decoded, or raises `RpcError`.

        ``args`` is a map from parameter name to value, or a list of values in order, or
        None for no arguments.  ``timeout`` is in seconds and covers everything, the wait
        for a place too.  If the task that awaits this is cancelled, the server is told.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        flags = FLAG_IDEMPOTENT if idempotent else 0
        body = self._encode_arguments(args)
        await self._ready(deadline)

        # No await from here to the write: the numbers go out in their order.
        seq = self._send_request(method, body, deadline, metadata, flags)
        entry = _Call(asyncio.get_running_loop().create_future())
        future = entry.future
        self._calls[seq] = entry
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            self._abandon(seq)
            raise
        if not future.done():
            self._abandon(seq)
            raise RpcError("deadline_exceeded", f"{method} took too long", "maybe")
        outcome = future.result()
        if isinstance(outcome, RpcError):
            raise outcome
        return self._result(*outcome)

    async def notify(
        self,
        method: str,
        args: Any = None,
        timeout: Optional[float] = None,
        metadata: Optional[Dict[str, str]] = None,
        idempotent: bool = False,
    ) -> None:
        """Sends a one-way request.  Nobody will know what became of it (section 7)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        flags = FLAG_ONE_WAY | (FLAG_IDEMPOTENT if idempotent else 0)
        body = self._encode_arguments(args)
        await self._ready(deadline)
        self._send_request(method, body, deadline, metadata, flags)
        self._wake_one()  # the place that was waited for is still there

    async def ping(self, timeout: float = 5.0) -> float:
        """Pings the server and returns the seconds until its pong.

        It waits first if more pings than is polite went out lately (section 13).
        """
        started = time.monotonic()
        while len(self._pings_sent) == self._pings_sent.maxlen:
            wait = self._pings_sent[0] + PING_WINDOW - time.monotonic()
            if wait <= 0:
                break
            await asyncio.sleep(wait)
            started = time.monotonic()
        self._check_stream()
        number = self._send_ping()
        future = self._pings[number] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError:
            raise RpcError("deadline_exceeded", "no pong came", "maybe") from None
        finally:
            self._pings.pop(number, None)
        self._check_stream("maybe")
        return time.monotonic() - started

    async def close(self, timeout: float = 5.0) -> None:
        """Closes in good order: what is in flight is answered first (section 5.5)."""
        self._say_goodbye()
        done, _ = await asyncio.wait({self._reader}, timeout=timeout)
        if not done:
            self._end("closed here, before the server had answered everything")
        await asyncio.gather(self._reader, self._watch, return_exceptions=True)
        await self.raw.wait_closed()

    def abort(self) -> None:
        """Closes at once.  Calls in flight end as `unavailable`, `maybe`."""
        self._end("closed here")
        self.raw.abort()

    async def wait_closed(self) -> None:
        """Waits until the stream has ended, whoever ended it."""
        await asyncio.wait({self._reader})

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    # ---- sending

    def _encode_arguments(self, args: Any) -> bytes:
        if args is None:
            return b""
        try:
            body = self.codec.encode_body(args)
        except (ValueError, TypeError, OverflowError, RecursionError) as e:
            raise RpcError("invalid_argument", f"the arguments: {e}", "not_sent") from None
        self._check_size("body", body, self.peer_max_frame_bytes)
        return body

    @staticmethod
    def _check_size(what: str, data: bytes, limit: int) -> None:
        if len(data) > limit:
            text = f"a {what} of {len(data)} bytes, where {limit} are allowed"
            raise RpcError("resource_exhausted", text, "not_sent")

    def _check_stream(self, execution: str = "not_sent") -> None:
        if self._ended is not None:
            raise RpcError("unavailable", self._ended, execution)

    def _check_open(self) -> None:
        """Raises if no request may be sent on this connection any more."""
        self._check_stream()
        if self._leaving:
            raise RpcError("unavailable", "the connection is being closed", "not_sent")
        if self.goaway is not None:
            raise RpcError("unavailable", "the server sent a goaway", "not_sent")

    async def _ready(self, deadline: Optional[float]) -> None:
        """Waits until the stream takes more and there is a place for one more call."""
        if deadline is None:
            return await self._flushed_with_place()
        left = deadline - time.monotonic()
        if left < 0.001:
            raise _time_is_up()
        try:
            await asyncio.wait_for(self._flushed_with_place(), left)
        except asyncio.TimeoutError:
            raise _time_is_up() from None

    async def _flushed_with_place(self) -> None:
        self._check_open()
        with contextlib.suppress(OSError):  # the reader finds out what is wrong
            await self.raw.flush()
        self._check_open()
        woken = False
        while len(self._calls) >= self.max_in_flight or (self._queue and not woken):
            waiter = asyncio.get_running_loop().create_future()
            # Who was woken and came too late stays in front of those who came after.
            (self._queue.appendleft if woken else self._queue.append)(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._queue:
                    self._queue.remove(waiter)
                else:
                    self._wake_one()
                raise
            woken = True
            self._check_open()

    def _wake_one(self) -> None:
        while self._queue and len(self._calls) < self.max_in_flight:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _send_request(
        self,
        method: str,
        body: bytes,
        deadline: Optional[float],
        metadata: Optional[Dict[str, str]],
        flags: int,
    ) -> int:
        """Numbers and writes a request.  If it raises, nothing was written."""
        try:
            self._check_open()
            timeout_ms = 0
            if deadline is not None:
                left = deadline - time.monotonic()
                if left < 0.001:
                    raise _time_is_up()
                timeout_ms = math.ceil(left * 1000)
            seq = self._last_seq + 1
            if seq > self.codec.max_seq:
                raise RpcError("unavailable", "the numbers are used up", "not_sent")
            head = Header("request", seq, method, timeout_ms, None, metadata, flags)
            try:
                header = self.codec.encode_header(head)
            except (ValueError, TypeError, OverflowError) as e:
                raise RpcError("invalid_argument", f"the header: {e}", "not_sent") from None
            self._check_size(
                "header", header, min(MAX_HEADER_BYTES, self.peer_max_frame_bytes)
            )
        except RpcError:
            self._wake_one()
            raise
        self._last_seq = seq
        self.raw.write(frame(header) + frame(body))
        return seq

    def _send(self, header: Header) -> None:
        if self._ended is None:
            self.raw.write(message(self.codec, header))

    def _send_ping(self) -> int:
        self._last_ping += 1
        self._pings_sent.append(time.monotonic())
        self._send(Header("ping", self._last_ping))
        return self._last_ping

    def _say_goodbye(self, error: Optional[WireError] = None) -> None:
        if not self._leaving:
            self._leaving = True
            self._send(Header("goaway", self._last_seq, error=error))
            self._wake_all()

    def _abandon(self, seq: int) -> None:
        """Nobody waits for this call any more; its place is taken until its answer."""
        entry = self._calls.get(seq)
        if entry is not None:
            entry.future = None
            self._send(Header("cancel", seq))

    # ---- receiving

    async def _read(self) -> None:
        reason = "the connection was lost"
        try:
            while True:
                header, body = await self.raw.read_message(self.max_frame_bytes)
                self._take(self.codec.decode_header(header), body)
        except EndOfStream as e:
            reason = str(e)
        except FrameTooLarge as e:
            reason = str(e)
            self._leaving = False
            self._say_goodbye(WireError("resource_exhausted", reason, "maybe"))
        except ProtocolError as e:
            reason = f"protocol error of the server: {e}"
        except OSError as e:
            reason = f"the connection was lost: {e}"
        finally:
            self._end(reason)

    def _take(self, header: Header, body: bytes) -> None:
        if header.kind == "response":
            entry = self._calls.pop(header.seq, None)
            if entry is not None:
                entry.settle((header, body))
                self._wake_one()
        elif header.kind == "ping":
            now = time.monotonic()
            self._pings_heard.append(now)
            if len(self._pings_heard) > MAX_PINGS and now - self._pings_heard[0] < PING_WINDOW:
                raise ProtocolError("too many pings")
            self._send(Header("pong", header.seq))
        elif header.kind == "pong":
            future = self._pings.get(header.seq)
            if future is not None and not future.done():
                future.set_result(None)
        elif header.kind == "goaway":
            self.goaway = header
            text = header.error.message if header.error else ""
            for seq in [seq for seq in self._calls if seq > header.seq]:
                refused = RpcError("unavailable", f"goaway: {text}", "refused")
                self._calls.pop(seq).settle(refused)
            self._wake_all()
        else:
            raise ProtocolError(f"a server does not send {header.kind}")

    def _result(self, header: Header, body: bytes) -> Any:
        """What a response means to its caller."""
        error = header.error
        value, fault = None, None
        if header.flags & FLAG_COMPRESSED:
            fault = "the body is compressed, which was not agreed on"
        elif body:
            try:
                value = self.codec.decode_body(body)
            except ValueError as e:
                fault = f"the body of the response: {e}"
        if error is not None:
            raise RpcError(error.code, error.message, error.execution, value, header.metadata)
        if fault is not None:
            raise RpcError("internal", fault, "done", metadata=header.metadata)
        return value

    async def _keep_alive(self) -> None:
        """Pings after a silence, and gives up after a longer one (section 13)."""
        while True:
            quiet = time.monotonic() - self.raw.last_heard
            if quiet < self._ping_after:
                await asyncio.sleep(self._ping_after - quiet)
                continue
            sent = time.monotonic()
            self._send_ping()
            await asyncio.sleep(self._ping_timeout)
            if self.raw.last_heard < sent:
                self._end("the server has fallen silent")
                return

    def _end(self, reason: str) -> None:
        """The stream is over: everybody who waits is told."""
        if self._ended is not None:
            return
        self._ended = reason
        calls, self._calls = self._calls, {}
        for entry in calls.values():
            entry.settle(RpcError("unavailable", reason, "maybe"))
        for future in self._pings.values():
            if not future.done():
                future.set_result(None)
        self._wake_all()
        self.raw.close()
        # Either of these tasks may be the one that runs this.
        for task in (self._reader, self._watch):
            if task is not asyncio.current_task():
                task.cancel()


async def connect(
    address: str,
    codec: str = MSGPACK,
    token: Optional[str] = None,
    *,
    connect_timeout: float = 10.0,
    handle_timeout: Optional[float] = None,
    max_frame_bytes: Optional[int] = None,
    ping_after: float = 10.0,
    ping_timeout: float = 5.0,
) -> Client:
    """Connects to ``tcp@host:port``, ``host:port`` or ``unix@/path``.

    ``codec`` is `MSGPACK` or `JSON`.  ``connect_timeout`` is for everything up to the
    server's Option, ``handle_timeout`` the longest that a handler may run for a call of
    this connection, ``max_frame_bytes`` the largest frame that will be accepted.  All
    times are in seconds.  Raises `ConnectError`.
    """
    spoken = CODECS.get(codec)
    if spoken is None:
        raise ValueError(f"the codec {codec!r} is not known here")
    option: Dict[str, Any] = {
        "magic_number": MAGIC_NUMBER,
        "version": VERSION,
        "codec_type": codec,
        "connect_timeout_ms": math.ceil(connect_timeout * 1000),
    }
    if handle_timeout is not None:
        option["handle_timeout_ms"] = math.ceil(handle_timeout * 1000)
    if max_frame_bytes is not None:
        option["max_frame_bytes"] = max_frame_bytes
    if token is not None:
        option["token"] = token

    raw: Optional[RawConnection] = None

    async def shake_hands() -> Dict[str, Any]:
        nonlocal raw
        raw = await RawConnection.open(address)
        answer = await raw.handshake(option)
        for field in ("magic_number", "version", "codec_type"):
            if answer.get(field) != option[field]:
                raise ConnectError("unavailable", f"the server's {field} differs", answer)
        return answer

    try:
        answer = await asyncio.wait_for(shake_hands(), connect_timeout)
    except BaseException as e:
        if raw is not None:
            raw.abort()
        if isinstance(e, asyncio.TimeoutError):
            text = f"no connection within {connect_timeout} s"
            raise ConnectError("deadline_exceeded", text) from None
        if isinstance(e, RpcError) or not isinstance(
            e, (OSError, EndOfStream, FrameTooLarge, ValueError)
        ):
            raise
        raise ConnectError("unavailable", f"no connection: {e}") from e
    return Client(
        raw,
        spoken,
        answer,
        max_frame_bytes=max_frame_bytes or DEFAULT_MAX_FRAME_BYTES,
        ping_after=ping_after,
        ping_timeout=ping_timeout,
    )
