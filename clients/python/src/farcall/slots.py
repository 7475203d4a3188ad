"""The slots for calls in flight on a connection, and the queue of callers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from .deadline import Deadline
from .errors import ResourceExhausted, Unavailable


class Slots:
    """A number of slots, acquired in the order of the requests."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self._free = count
        self._max_waiting = max_waiting
        # The waiting callers, at most `max_waiting`.  The result None means an acquired slot.
        self._waiting: OrderedDict[asyncio.Future[str | None], None] = OrderedDict()
        self._closed: str | None = None

    async def acquire(self, deadline: Deadline) -> None:
        """Acquires a slot, or waits until one is released.

        Raises `DeadlineExceeded`, `ResourceExhausted` if too many wait already, or
        `Unavailable` after `close`; all of them ``not_sent``.
        """
        if self._closed is not None:
            raise Unavailable(self._closed)
        if self._free > 0:
            self._free -= 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise ResourceExhausted(f"{len(self._waiting)} calls wait already")
        waiter: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await asyncio.wait({waiter}, timeout=deadline.left)
        except asyncio.CancelledError:
            if waiter.done():
                self.release()  # it acquired a slot at this moment
            raise
        finally:
            self._waiting.pop(waiter, None)
        if not waiter.done():
            raise deadline.exceeded("not_sent")
        closed = waiter.result()
        if closed is not None:
            raise Unavailable(closed)

    def release(self) -> None:
        """Releases a slot, which the first waiting caller acquires."""
        if self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            waiter.set_result(None)
        else:
            self._free += 1

    def close(self, reason: str) -> None:
        """Fails all waiting and later callers with this reason."""
        if self._closed is None:
            self._closed = reason
            while self._waiting:
                waiter, _ = self._waiting.popitem()
                waiter.set_result(reason)
