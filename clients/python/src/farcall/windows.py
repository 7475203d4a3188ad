"""The credit of both directions of a stream, without clock and event loop.

The numbers of credit count from the beginning of the call and never fall.
"""

from __future__ import annotations

from collections.abc import Callable

#: The cost of an item in addition to the bytes of its body, so that empty items need credit too.
ITEM_OVERHEAD = 64

#: The credit that each stream begins with if the receiver's Option states none.
DEFAULT_STREAM_WINDOW = 64 * 1024
#: The credit that this client grants, and the largest to which a window grows, in bytes.
CLIENT_STREAM_WINDOW = 256 * 1024
CLIENT_MAX_STREAM_WINDOW = 16 * 1024 * 1024
#: The bytes that all windows of a connection may grow by.
CLIENT_MAX_STREAM_GROWTH = 64 * 1024 * 1024

#: The seconds without a starved item after which a window that has grown is halved.
SHRINK_AFTER = 10.0
#: The size in bytes beyond which a window grows only while that helps.
UNCONDITIONAL_SIZE = 1024 * 1024
#: Shorter delays of a path, there and back, in seconds, count as this one.
MIN_DELAY = 0.0005


def item_cost(body_bytes: int) -> int:
    """Returns the credit that an item costs, from the length of its body as sent."""
    return body_bytes + ITEM_OVERHEAD


class CreditExceeded(Exception):
    """The sender sent an item for which it had no credit."""


class SendWindow:
    """The credit of a sender: an item may be sent while less than the limit was spent."""

    def __init__(self, limit: int) -> None:
        self.spent = 0
        self.limit = limit
        self._waited = False

    @property
    def is_open(self) -> bool:
        """True if an item may be sent, whatever its size."""
        return self.spent < self.limit

    def check(self) -> bool:
        """Returns True if an item may be sent; if not, the next item is marked as starved."""
        is_open = self.is_open
        self._waited = self._waited or not is_open
        return is_open

    def spend(self, body_bytes: int) -> bool:
        """Accounts for an item that is sent.  Returns True if it is starved: it had to wait."""
        self.spent += item_cost(body_bytes)
        starved, self._waited = self._waited, False
        return starved

    def grant(self, limit: int) -> bool:
        """Raises the limit to that of a credit message.  Returns True if that opened the window."""
        was_open = self.is_open
        self.limit = max(self.limit, limit)
        return self.is_open and not was_open


class Growth:
    """The bytes that the windows of one connection may still grow by."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def take(self, count: int) -> bool:
        """Takes this many bytes, if there are so many."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def give_back(self, count: int) -> None:
        """Returns bytes of a window that shrank, or that has ended."""
        self.left += count


class CreditTimes:
    """What the times of its credits tell a receiver of the path to the sender.

    A sender that waits for credit is idle for the delay of the path in each window.  A larger
    window helps as long as the window passes in about that time; beyond, it only puts more
    bytes in front of whatever else the connection carries.
    """

    def __init__(self) -> None:
        # The times of the last credit and of the one before it, half of a window apart.
        self._last: float | None = None
        self._before_last: float | None = None
        # The time in which the last window was consumed.
        self._window: float | None = None
        # A credit that no item has needed yet: the limit before it, its own, and its time.
        self._pending: tuple[int, int, float] | None = None
        # The shortest time from a credit to the item that waited for it.
        self.delay: float | None = None

    def credit(self, before: int, limit: int, received: int, now: float) -> None:
        """Notes that the limit is raised, after items of the cost `received`."""
        if self._before_last is not None:
            self._window = now - self._before_last
        self._last, self._before_last = now, self._last
        if self._pending is None or self._pending[1] <= received:
            self._pending = (before, limit, now)

    def starved_item(self, received: int, now: float) -> None:
        """Notes that an item that had waited arrived, after others of the cost `received`."""
        if self._pending is None or received < self._pending[0]:
            return
        _, limit, sent = self._pending
        self._pending = None
        # If not, a later credit let this item through.
        if received < limit:
            delay = now - sent
            self.delay = delay if self.delay is None else min(self.delay, delay)

    @property
    def is_window_short(self) -> bool:
        """True if the last window was consumed within twice the delay."""
        if self._window is None or self.delay is None:
            return False
        return self._window <= 2 * max(self.delay, MIN_DELAY)


class ReceiveWindow:
    """The credit that a receiver grants.

    It holds at most what it granted and one item more.  The window doubles when its sender
    had to wait though the application had taken everything, and halves after 10 s in
    which no item had to.  Beyond 1 MiB it doubles only if the last window was consumed within
    twice the delay of the path, or within 1 ms.
    """

    def __init__(self, initial: int, maximum: int, growth: Growth) -> None:
        self.size = self.granted = self._initial = initial
        self._maximum = max(initial, maximum)
        self._growth = growth
        self.received = 0
        self.consumed = 0
        # `consumed` when the window last grew.
        self._grown_at = 0
        # The time from which SHRINK_AFTER counts; None for a window of its initial size.
        self._last_starved: float | None = None
        self._times = CreditTimes()

    @property
    def held(self) -> int:
        """The cost of the items that were received and not yet consumed."""
        return self.received - self.consumed

    @property
    def shrink_at(self) -> float | None:
        """The time at which `shrink` is due; None for a window of its initial size."""
        return None if self._last_starved is None else self._last_starved + SHRINK_AFTER

    def receive(self, body_bytes: int, starved: bool, now: float) -> int | None:
        """Accounts for an item that arrived.  Returns the credit to send if the window grew.

        Raises `CreditExceeded` if the sender had no credit.
        """
        if self.received >= self.granted:
            raise CreditExceeded(
                f"an item was sent although {self.received} of {self.granted} had been spent"
            )
        all_taken = self.held == 0
        if starved:
            self._times.starved_item(self.received, now)
        self.received += item_cost(body_bytes)
        if not starved:
            return None
        if self._last_starved is not None:
            self._last_starved = now
        maximum = self._maximum
        if not self._times.is_window_short:
            maximum = min(maximum, max(self.size, UNCONDITIONAL_SIZE))
        more = min(self.size, maximum - self.size)
        is_due = all_taken and more > 0 and self.consumed - self._grown_at >= self.size
        if not is_due or not self._growth.take(more):
            return None
        self.size += more
        self._grown_at = self.consumed
        self._last_starved = now
        return self._raise_limit(lambda: now)

    def consume(self, body_bytes: int, now: Callable[[], float]) -> int | None:
        """Accounts for an item that the application took.

        Returns the credit to send, if half of the window was consumed since the last; `now` is
        called for it.
        """
        self.consumed += item_cost(body_bytes)
        if 2 * (self.consumed + self.size - self.granted) < self.size:
            return None
        return self._raise_limit(now)

    def shrink(self, now: float) -> None:
        """Halves the window if it is due.  What was granted stays granted."""
        due = self.shrink_at
        if due is None or now < due:
            return
        smaller = max(self.size // 2, self._initial)
        self._growth.give_back(self.size - smaller)
        self.size = smaller
        self._last_starved = now if smaller > self._initial else None

    def end(self) -> None:
        """Gives back all growth, because the stream has ended."""
        self._growth.give_back(self.size - self._initial)
        self.size = self._initial
        self._last_starved = None

    def _raise_limit(self, now: Callable[[], float]) -> int | None:
        limit = self.consumed + self.size
        if limit <= self.granted:
            return None
        self._times.credit(self.granted, limit, self.received, now())
        self.granted = limit
        return limit
