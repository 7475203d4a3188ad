"""What a call that fails raises: one class for each code of the protocol.

``docs/PROTOCOL.md``, section 11, says what the codes mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Execution = Literal["done", "refused", "maybe", "not_sent"]

#: What of a peer's text may be printed, in bytes of UTF-8 (section 11.4).
MAX_TEXT_BYTES = 1024


class FarcallError(Exception):
    """A call failed.  Each code has a class of its own below this one.

    ``str()`` of it is fit to be printed: text of the server is cut and escaped there.
    """

    #: What kind of failure it is, such as ``"deadline_exceeded"``.
    code: ClassVar[str] = "internal"

    #: What went wrong, for people.  The text of a server stands here as it came.
    message: str
    #: Whether the work may have been done: ``"done"`` (the method ran to its end),
    #: ``"refused"`` (the server never started it), ``"maybe"`` (nobody can know), or
    #: ``"not_sent"`` (no byte of it left this process).
    execution: Execution
    #: The error value that the method returned, where the code is ``"application"``;
    #: otherwise mostly None.
    details: Any
    #: What the server sent along.
    metadata: dict[str, str]
    #: Which method was called; empty if it is the connection that failed.
    method: str

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
        """How many seconds the server asks to wait before another try, if it does."""
        value = self.metadata.get("farcall-retry-after-ms", "")
        is_number = value.isascii() and value.isdigit() and len(value) <= 15
        return int(value) / 1000 if is_number else None

    def __str__(self) -> str:
        where = f"{self.method}: " if self.method else ""
        return f"{safe_text(where + self.message)} ({self.code}, {self.execution})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Cancelled(FarcallError):
    """The server stopped it, because of a shutdown, say.

    A caller whose own task is cancelled gets `asyncio.CancelledError` as usual.
    """

    code = "cancelled"


class DeadlineExceeded(FarcallError):
    """Its time ran out, here or at the server."""

    code = "deadline_exceeded"


class InvalidArgument(FarcallError):
    """The arguments are not what the method takes, or cannot be encoded."""

    code = "invalid_argument"


class Unauthenticated(FarcallError):
    """There was no token, or a wrong one."""

    code = "unauthenticated"


class Unimplemented(FarcallError):
    """There is no such service, or no such method."""

    code = "unimplemented"


class PermissionDenied(FarcallError):
    """Whoever this client is may not call this."""

    code = "permission_denied"


class ResourceExhausted(FarcallError):
    """A limit was reached: calls under way, rate, size."""

    code = "resource_exhausted"


class Unavailable(FarcallError):
    """Not now: there is no connection, it was lost, or the server is stopping."""

    code = "unavailable"


class InternalError(FarcallError):
    """The server's own fault, such as a handler that panicked; also an unknown code."""

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


def safe_text(text: str) -> str:
    """Text of a peer, cut and escaped, so that it may be printed or logged."""
    data = text.encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES]
    cut = data.decode("utf-8", "ignore")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
