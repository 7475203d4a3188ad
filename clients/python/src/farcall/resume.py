"""How a stream goes on elsewhere after its server has stopped."""

from __future__ import annotations

from typing import Any, Callable

#: The number of calls in a row without an item, after which the stream ends with the last error.
MAX_FRUITLESS = 10
#: The pauses before them, in seconds: the first, and the longest after doubling.
FIRST_PAUSE = 0.05
MAX_PAUSE = 5.0


class Resume:
    """The arguments of the calls with which a stream goes on, and how many had no item."""

    def __init__(
        self, first: bytes, arguments: Callable[[Any], bytes], is_closed: Callable[[], bool]
    ) -> None:
        """Takes the encoded arguments of the first call, and a function from an item to others.

        ``is_closed`` returns True once no call can be made any more.
        """
        self._first = first
        self._arguments = arguments
        self._is_closed = is_closed
        # The last item that the caller took, in a tuple.
        self._last: tuple[Any] | None = None
        self._fruitless = 0

    def taken(self, item: Any) -> None:
        """Records an item that the caller gets."""
        self._last = (item,)
        self._fruitless = 0

    def body(self) -> bytes:
        """Returns the encoded arguments of the next call."""
        return self._first if self._last is None else self._arguments(self._last[0])

    def next_pause(self) -> float | None:
        """Returns the pause before another call, in seconds; None if there were enough."""
        if self._is_closed() or self._fruitless >= MAX_FRUITLESS:
            return None
        # The first call is made at once.
        pause = 0.0 if self._fruitless == 0 else FIRST_PAUSE * 2.0 ** (self._fruitless - 1)
        self._fruitless += 1
        return min(pause, MAX_PAUSE)
