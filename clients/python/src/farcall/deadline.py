"""The time that a call has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

from .errors import DeadlineExceeded, Execution

T = TypeVar("T")

#: With less time than this left, in seconds, nothing is sent (PROTOCOL.md, section 9).
TOO_LITTLE = 0.001
#: The longest time that may be sent: the whole numbers of JSON end there.
MAX_TIMEOUT_MS = 2**53 - 1


class Deadline:
    """The end of a call's time, by the monotonic clock; or none."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else monotonic() + timeout

    @property
    def left(self) -> float | None:
        """The seconds that are left, possibly below 0; None if there is no end."""
        return None if self._end is None else self._end - monotonic()

    def timeout_ms(self) -> int:
        """What to send: the time that is left, rounded up, or 0 for no end.

        Raises `DeadlineExceeded` if there is too little left to send anything.
        """
        left = self.left
        if left is None:
            return 0
        if left < TOO_LITTLE:
            raise self.exceeded("not_sent")
        return math.ceil(min(left * 1000, MAX_TIMEOUT_MS))

    def exceeded(self, execution: Execution) -> DeadlineExceeded:
        """What to raise when the time is up."""
        return DeadlineExceeded(f"not within {self._timeout:g} s", execution)


async def within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; it is cancelled, and asyncio.TimeoutError raised, if it is late.

    Unlike asyncio.wait_for before Python 3.12, it loses no cancellation that comes in
    the moment when the work is done.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        # Nobody is left to hear how it failed, which asyncio would complain about.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            raise asyncio.TimeoutError
    return task.result()
