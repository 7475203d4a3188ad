"""The Options of both sides (``docs/PROTOCOL.md``, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .codec import Codec, JsonCodec
from .deadline import MAX_TIMEOUT_MS
from .errors import InvalidArgument
from .once import MAX_STORE_BYTES
from .stream import FrameStream
from .windows import CLIENT_STREAM_WINDOW, DEFAULT_STREAM_WINDOW
from .wire import (
    DEFAULT_MAX_FRAME_BYTES,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_MAX_STREAMS,
    MAGIC_NUMBER,
    MAX_OPTION_BYTES,
    STREAMS_FEATURE,
    VERSION,
    FrameTooLarge,
    ProtocolError,
    WireError,
)

_JSON = JsonCodec()


@dataclass(frozen=True)
class Terms:
    """The terms that the server stated in its handshake."""

    #: The size of the largest frame that it accepts, in bytes.
    max_frame_bytes: int
    #: The number of calls that it runs at once for one connection.
    max_in_flight: int
    #: The time limit of a method, in seconds; None is no limit.
    handle_timeout: float | None
    #: The number of streaming calls that it runs at once for one connection; None if it does
    #: not stream.
    max_streams: int | None = None
    #: The bytes of items that it takes from each stream before it grants more.
    stream_window: int = DEFAULT_STREAM_WINDOW
    #: The name of the store with the keys of calls that it carries out once; None if it has none.
    once_store: str | None = None

    @classmethod
    def of(cls, option: dict[str, Any]) -> Terms:
        """Reads the terms of a server's Option; raises `ProtocolError` if they are invalid."""
        timeout_ms = _count(option, "handle_timeout_ms", 0)
        return cls(
            _count(option, "max_frame_bytes", DEFAULT_MAX_FRAME_BYTES),
            _count(option, "max_in_flight", DEFAULT_MAX_IN_FLIGHT),
            timeout_ms / 1000 if timeout_ms else None,
            _max_streams(option),
            _window(option),
            _once_store(option),
        )


def option_of(
    codec: Codec,
    *,
    connect_timeout: float,
    handle_timeout: float | None,
    max_frame_bytes: int,
    token: str | None,
    stream_window: int = CLIENT_STREAM_WINDOW,
) -> dict[str, Any]:
    """Returns the Option of a client.  Times are in seconds."""
    option: dict[str, Any] = {
        "magic_number": MAGIC_NUMBER,
        "version": VERSION,
        "codec_type": codec.content_type,
        "connect_timeout_ms": _milliseconds(connect_timeout),
        "max_frame_bytes": max_frame_bytes,
        "features": [STREAMS_FEATURE],
        "stream_window": stream_window,
    }
    if handle_timeout is not None:
        option["handle_timeout_ms"] = _milliseconds(handle_timeout)
    if token is not None:
        option["token"] = token
    return option


def _milliseconds(seconds: float) -> int:
    """Returns whole milliseconds, rounded up, as far as JSON is exact."""
    return math.ceil(min(seconds * 1000, MAX_TIMEOUT_MS))


async def shake_hands(stream: FrameStream, option: dict[str, Any]) -> Terms:
    """Sends the Option, and returns the terms in the server's.

    Raises the error of a refusal, or the exceptions of reading.
    """
    data = _JSON.encode(option)
    if len(data) > MAX_OPTION_BYTES:
        raise InvalidArgument("the token is too long for a handshake")
    stream.write_frame(data)
    answer = await read_option(stream)
    error = answer.get("error")
    if error is not None:
        parts = error if isinstance(error, dict) else {}
        refusal = WireError.of(parts.get("code"), parts.get("message"), None).raised()
        refusal.execution = "not_sent"
        raise refusal
    for field in ("magic_number", "version", "codec_type"):
        if answer.get(field) != option[field]:
            raise ProtocolError(f"the {field} in its Option is another one")
    if answer.get("compression") is not None:
        raise ProtocolError("compression in its Option was not offered")
    return Terms.of(answer)


async def read_option(stream: FrameStream) -> dict[str, Any]:
    """Reads the Option of the peer, without checking its fields."""
    try:
        option = _JSON.decode(await stream.read_frame(MAX_OPTION_BYTES))
    except ValueError as error:
        raise ProtocolError(f"its Option is {error}") from None
    except FrameTooLarge as error:
        # Probably four bytes of another protocol instead of a length.
        begins = error.length.to_bytes(4, "big")
        if begins == b"HTTP":
            raise ProtocolError("it speaks HTTP there, which http@ is for") from None
        if begins.startswith(b"\x15\x03"):
            raise ProtocolError("it speaks TLS there, which tls@ is for") from None
        raise ProtocolError(f"its Option is {error}") from None
    if not isinstance(option, dict):
        raise ProtocolError("its Option is not an object")
    return option


def _max_streams(option: dict[str, Any]) -> int | None:
    features = option.get("features")
    if features is None:
        return None
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise ProtocolError("features in its Option is no list of strings")
    if STREAMS_FEATURE not in features:
        return None
    if option.get("max_streams") == 0:
        return 0
    return _count(option, "max_streams", DEFAULT_MAX_STREAMS)


def _window(option: dict[str, Any]) -> int:
    # Of a stated 0 nothing may be spent before the first credit.
    if option.get("stream_window") == 0:
        return 0
    return _count(option, "stream_window", DEFAULT_STREAM_WINDOW)


def _once_store(option: dict[str, Any]) -> str | None:
    name = option.get("once_store")
    if name is None:
        return None
    if not isinstance(name, str):
        raise ProtocolError("once_store in its Option is no text")
    # An empty name is none.
    return name.encode("utf-8", "replace")[:MAX_STORE_BYTES].decode("utf-8", "ignore") or None


def _count(option: dict[str, Any], field: str, default: int) -> int:
    value = option.get(field)
    if value is None or value == 0 and not isinstance(value, bool):
        return default  # 0 says no more than no value does
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ProtocolError(f"{field} in its Option is no count")
    return value
