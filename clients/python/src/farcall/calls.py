"""A request, and the outcomes that a call can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from .codec import Codec
from .deadline import Deadline
from .errors import FarcallError, InternalError
from .once import Once, new_key
from .wire import FLAG_COMPRESSED, MAX_METADATA_PAIRS, Header


@dataclass
class Request:
    """A request to send."""

    method: str
    body: bytes
    deadline: Deadline
    metadata: dict[str, str] | None
    flags: int
    #: The number of times that it was sent before.
    tries: int = 0
    #: Where its tries have gone, if the server carries the call out once.
    once: Once | None = None

    def carry_out_once(self) -> None:
        """Has the server carry the call out once; its caller may have set a key."""
        self.once = Once()
        key = {"farcall-idempotency-key": new_key()}
        self.metadata = {**key, **(self.metadata or {}), "farcall-once": "1"}
        if len(self.metadata) > MAX_METADATA_PAIRS:
            raise ValueError(f"metadata leaves no room for the key: {len(self.metadata)} pairs")

    def count_attempt(self) -> None:
        """Tells the server which attempt it is, unless it is the first."""
        metadata = self.metadata or {}
        key = "farcall-attempt"
        if self.tries and (key in metadata or len(metadata) < MAX_METADATA_PAIRS):
            self.metadata = {**metadata, key: str(self.tries + 1)}


class Answer(NamedTuple):
    """The response to a call."""

    header: Header
    body: bytes


Outcome = Union[Answer, FarcallError]


def failure_of(outcome: Outcome) -> FarcallError | None:
    """Returns the error of an outcome, without its details; None if the call succeeded."""
    if isinstance(outcome, FarcallError):
        return outcome
    error = outcome.header.error
    return None if error is None else error.raised(None, outcome.header.metadata)


def result_of(codec: Codec, answer: Answer) -> Any:
    """Returns the result of a response, or raises its error."""
    header, body = answer
    value, fault = None, None
    if header.flags & FLAG_COMPRESSED:
        fault = "the body is compressed, which was not agreed on"
    elif body:
        try:
            value = codec.decode(body)
        except ValueError as error:
            fault = f"the body of the response is {error}"
    if header.error is not None:
        raise header.error.raised(value, header.metadata)
    if fault is not None:
        raise InternalError(fault, "done", metadata=header.metadata)
    return value
