"""The order in which the streams of a connection send their items."""

from __future__ import annotations

from collections import deque
from typing import Callable

#: The bytes of items that a stream may send in each of its turns.
ITEM_QUANTUM = 16 * 1024


class ItemSchedule:
    """Deficit round robin over the streams that have items to send.

    Streams share the connection by bytes, whatever the size of their items (Shreedhar and
    Varghese, "Efficient Fair Queueing using Deficit Round Robin", 1995).
    """

    def __init__(self) -> None:
        # The numbers of the calls in the order of their turns, at most one for each stream.
        self._turns: deque[int] = deque()
        self._deficits: dict[int, int] = {}
        self._in_turn = False

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, seq: int) -> None:
        """Adds a stream that has an item, behind the others; nothing if it is there already."""
        if seq not in self._deficits:
            self._deficits[seq] = 0
            self._turns.append(seq)

    def next(self, room: int, cost: Callable[[int], int | None]) -> int | None:
        """Returns the stream that sends its next item; None if there is none.

        ``cost`` returns the bytes of a stream's next item.  If it returns None, the stream leaves
        and gives up the rest of its turn.  If the item does not fit into ``room`` bytes, None is
        returned, and it is the first one of the next call.
        """
        while self._turns:
            seq = self._turns[0]
            count = cost(seq)
            if count is None:
                self._turns.popleft()
                del self._deficits[seq]
                self._in_turn = False
                continue
            if not self._in_turn:
                self._deficits[seq] += ITEM_QUANTUM
                self._in_turn = True
            # Alone, a stream need not save up for a large item.
            if self._deficits[seq] >= count or len(self._turns) == 1:
                if count > room:
                    return None
                self._deficits[seq] = max(0, self._deficits[seq] - count)
                return seq
            self._turns.rotate(-1)
            self._in_turn = False
        return None
