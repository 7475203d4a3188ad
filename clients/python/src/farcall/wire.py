"""The wire format: headers, their parts and limits, and frames.

The numbers in the comments are the sections of ``docs/PROTOCOL.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from .errors import BY_CODE, Execution, FarcallError

MAGIC_NUMBER = 0xCAFEBABE
VERSION = 1

# 8
MAX_OPTION_BYTES = 4 * 1024
MAX_HEADER_BYTES = 64 * 1024
DEFAULT_MAX_FRAME_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_IN_FLIGHT = 1024

# 13: the number of pings that are allowed in each window, in seconds.
MAX_PINGS = 10
PING_WINDOW = 5.0

# 7
FLAG_COMPRESSED = 1
FLAG_ONE_WAY = 2
FLAG_IDEMPOTENT = 4
FLAG_STREAMING = 8
FLAG_STARVED = 16

# 5
KINDS = {"request": 1, "response": 2, "cancel": 3, "ping": 4, "pong": 5, "goaway": 6}

#: The kinds of streams, legal only where the Options agreed on them.
STREAM_KINDS = {"item": 8, "end": 9, "credit": 10, "stop": 11}
ALL_KINDS = {**KINDS, **STREAM_KINDS}

#: The part of the protocol that the Options agree on by this name.
STREAMS_FEATURE = "streams"
DEFAULT_MAX_STREAMS = 256

#: The largest number of pairs in the metadata of a message.
MAX_METADATA_PAIRS = 1024

# 11.1
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

# 11.2; `not_sent` is missing, because it is never sent.
EXECUTIONS = {"done": 0, "refused": 1, "maybe": 2}


class ProtocolError(Exception):
    """The peer violated the protocol (12)."""


class FrameTooLarge(Exception):
    """The peer announced a frame over the limit (2)."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes, where {limit} are allowed")
        self.length = length


class EndOfStream(Exception):
    """The stream ended.  ``clean`` is true if it did so between two messages."""

    def __init__(self, clean: bool) -> None:
        super().__init__("the stream ended" if clean else "the stream ended in a frame")
        self.clean = clean


class WireError(NamedTuple):
    """The ``error`` of a header, with code and execution by name."""

    code: str
    message: str
    execution: str

    @classmethod
    def of(cls, code: Any, message: Any, execution: Any) -> WireError:
        """Creates an error from decoded values; code and execution may be unknown (11)."""
        return cls(
            code if is_known(CODES, code) else "internal",
            message if isinstance(message, str) else "",
            execution if is_known(EXECUTIONS, execution) else "maybe",
        )

    def raised(self, details: Any = None, metadata: dict[str, str] | None = None) -> FarcallError:
        """Returns the exception for the caller."""
        execution = cast(Execution, self.execution)
        return BY_CODE[self.code](self.message or self.code, execution, details, metadata)


@dataclass
class Header:
    """A header (4.2).  ``kind`` is a name from `ALL_KINDS`."""

    kind: str
    seq: int
    service_method: str = ""
    timeout_ms: int = 0
    error: WireError | None = None
    metadata: dict[str, str] | None = None
    flags: int = 0

    @classmethod
    def checked(
        cls,
        kind: str,
        seq: Any,
        service_method: Any,
        timeout_ms: Any,
        error: WireError | None,
        metadata: Any,
        flags: Any,
    ) -> Header:
        """Creates a header from decoded fields; None is a default.  Raises `ProtocolError`."""
        service_method = "" if service_method is None else service_method
        if not isinstance(service_method, str):
            raise ProtocolError("header: service_method is not a string")
        if metadata is not None:
            if not isinstance(metadata, dict) or not all(
                isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()
            ):
                raise ProtocolError("header: metadata is not a map of strings")
        return cls(
            kind=kind,
            seq=uint(seq, "header: seq"),
            service_method=service_method,
            timeout_ms=0 if timeout_ms is None else uint(timeout_ms, "header: timeout_ms"),
            error=error,
            metadata=metadata,
            flags=0 if flags is None else uint(flags, "header: flags"),
        )


def uint(value: Any, name: str) -> int:
    """Returns a decoded integer of up to 64 bits; raises `ProtocolError`, which names it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtocolError(f"{name} is not an integer")
    if not 0 <= value < 1 << 64:
        raise ProtocolError(f"{name} is out of range")
    return value


def is_known(table: dict[Any, Any], key: Any) -> bool:
    """Returns True if the table has the key, which may be of any type."""
    return isinstance(key, (int, str)) and not isinstance(key, bool) and key in table


def frame(payload: bytes) -> bytes:
    """Returns the payload with its length prefix (2)."""
    return len(payload).to_bytes(4, "big") + payload
