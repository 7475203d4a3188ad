"""Who may have a call under way on a connection, and who waits for that."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from .deadline import Deadline
from .errors import ResourceExhausted, Unavailable


class Places:
    """A number of places, given out in the order in which they were asked for."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self._free = count
        self._max_waiting = max_waiting
        # At most `max_waiting`.  Who is in it waits; None is the result of having a place.
        self._waiting: OrderedDict[asyncio.Future[str | None], None] = OrderedDict()
        self._closed: str | None = None

    async def take(self, deadline: Deadline) -> None:
        """Takes a place, or waits until somebody gives one back.

        Raises `DeadlineExceeded`, `ResourceExhausted` if too many wait already, or
        `Unavailable` if there are no places any more; all of them ``not_sent``.
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
                self.give_back()  # it was given a place in this very moment
            raise
        finally:
            self._waiting.pop(waiter, None)
        if not waiter.done():
            raise deadline.exceeded("not_sent")
        closed = waiter.result()
        if closed is not None:
            raise Unavailable(closed)

    def give_back(self) -> None:
        """Gives a place back, which the first who waits gets."""
        if self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            waiter.set_result(None)
        else:
            self._free += 1

    def close(self, why: str) -> None:
        """There are no places from now on, for nobody."""
        if self._closed is None:
            self._closed = why
            while self._waiting:
                waiter, _ = self._waiting.popitem()
                waiter.set_result(why)
