"""The exceptions of failed calls: one class for each code of the protocol.

``docs/PROTOCOL.md``, section 11, explains the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Execution = Literal["done", "refused", "maybe", "not_sent"]

#: The limit of a peer's text in output, in bytes of UTF-8 (section 11.4).
MAX_TEXT_BYTES = 1024
#: The characters of a name or an address in output: the reason stands behind it.
MAX_NAME_CHARS = 128


class FarcallError(Exception):
    """A failed call.  Each code has its own subclass.

    ``str()`` of it is safe to print: the server's text is truncated and escaped.
    """

    #: The kind of failure, such as ``"deadline_exceeded"``.
    code: ClassVar[str] = "internal"

    #: The human-readable message.  The server's text is unchanged here.
    message: str
    #: Whether the method may have run: ``"done"`` (it ran to its end),
    #: ``"refused"`` (the server never started it), ``"maybe"`` (its state is unknown), or
    #: ``"not_sent"`` (no byte of the request left this process).
    execution: Execution
    #: The error value that the method returned, if the code is ``"application"``;
    #: usually None otherwise.
    details: Any
    #: The metadata of the response.
    metadata: dict[str, str]
    #: The called method; empty if connecting failed.
    method: str
    #: True if the server said goaway before it began the call.
    _by_goaway = False

    def __init__(
        self,
        message: str,
        execution: Execution = "not_sent",
        details: Any = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.execution = execution
        self.details = details
        self.metadata = dict(metadata or {})
        self.method = ""

    @property
    def retry_after(self) -> float | None:
        """The seconds to wait before another try, if the server sent them."""
        value = self.metadata.get("farcall-retry-after-ms", "")
        is_number = value.isascii() and value.isdigit() and len(value) <= 15
        return int(value) / 1000 if is_number else None

    def __str__(self) -> str:
        where = f"{short(self.method)}: " if self.method else ""
        return f"{safe_text(where + self.message)} ({self.code}, {self.execution})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Cancelled(FarcallError):
    """The server stopped the call, for example because it shuts down.

    A caller whose own task is cancelled gets `asyncio.CancelledError` as usual.
    """

    code = "cancelled"


class DeadlineExceeded(FarcallError):
    """The deadline passed, in the client or at the server."""

    code = "deadline_exceeded"


class InvalidArgument(FarcallError):
    """The arguments are invalid for the method, or cannot be encoded."""

    code = "invalid_argument"


class Unauthenticated(FarcallError):
    """The token is missing or wrong."""

    code = "unauthenticated"


class Unimplemented(FarcallError):
    """There is no such service, or no such method."""

    code = "unimplemented"


class PermissionDenied(FarcallError):
    """This client may not call the method."""

    code = "permission_denied"


class ResourceExhausted(FarcallError):
    """A limit was reached: calls in flight, rate, size."""

    code = "resource_exhausted"


class Unavailable(FarcallError):
    """Not now: there is no connection, it was lost, or the server is stopping."""

    code = "unavailable"


class InternalError(FarcallError):
    """An error of the server, such as a panicked handler; also an unknown code."""

    code = "internal"


class ApplicationError(FarcallError):
    """The method itself returned an error, and ``details`` is its value."""

    code = "application"


BY_CODE: dict[str, type[FarcallError]] = {
    error.code: error
    for error in (
        Cancelled,
        DeadlineExceeded,
        InvalidArgument,
        Unauthenticated,
        Unimplemented,
        PermissionDenied,
        ResourceExhausted,
        Unavailable,
        InternalError,
        ApplicationError,
    )
}


def refused_by_goaway(why: str) -> Unavailable:
    """Returns the error of a call that the server had not begun when it said goaway."""
    error = Unavailable(why, "refused")
    error._by_goaway = True
    return error


def is_refused_by_goaway(error: FarcallError) -> bool:
    """Returns True if the connection was at fault.

    A server that refuses a call for its load answers it.
    """
    return error._by_goaway


def short(name: str) -> str:
    """Returns the beginning of a name, for errors; ``…`` stands for the rest."""
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"


def safe_text(text: str) -> str:
    """Returns a peer's text, truncated and escaped, for output and logs."""
    data = text.encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES]
    cut = data.decode("utf-8", "ignore")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
