"""The deadline of a call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

from .errors import DeadlineExceeded, Execution

T = TypeVar("T")

#: The remaining time below which nothing is sent, in seconds (PROTOCOL.md, section 9).
MIN_TIMEOUT = 0.001
#: The longest timeout that can be sent: the largest exact integer of JSON.
MAX_TIMEOUT_MS = 2**53 - 1


class Deadline:
    """The end of a call's time by the monotonic clock, or no end."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else monotonic() + timeout

    @property
    def left(self) -> float | None:
        """The remaining seconds, possibly below 0; None if there is no end."""
        return None if self._end is None else self._end - monotonic()

    def timeout_ms(self) -> int:
        """Returns the timeout to send: the remaining time, rounded up, or 0 for no end.

        Raises `DeadlineExceeded` if too little time remains.
        """
        left = self.left
        if left is None:
            return 0
        if left < MIN_TIMEOUT:
            raise self.exceeded("not_sent")
        return math.ceil(min(left * 1000, MAX_TIMEOUT_MS))

    def exceeded(self, execution: Execution, what: str = "not") -> DeadlineExceeded:
        """Returns the error to raise after the deadline; ``what`` begins its message."""
        return DeadlineExceeded(f"{what} within {self._timeout:g} s", execution)


async def within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of the work; cancels it and raises asyncio.TimeoutError after ``seconds``.

    Unlike asyncio.wait_for before Python 3.12, it loses no cancellation that arrives at
    the moment when the work is done.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        # Retrieves the exception, so that asyncio does not log it as never retrieved.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            raise asyncio.TimeoutError
    return task.result()
