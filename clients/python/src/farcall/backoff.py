"""How long a server is left alone that cannot be connected."""

from __future__ import annotations

import random
import time
from typing import Callable

# gRPC's connection backoff: https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
FIRST = 1.0
FACTOR = 1.6
MOST = 120.0
JITTER = 0.2

#: A connection that ended sooner, in seconds, proves nothing: a server that lets go at
#: once is not dialed at once.
PROVEN = 1.0


class Backoff:
    """Counts failures in a row, and the rest that follows from them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._until = now()

    @property
    def rest(self) -> float:
        """The seconds until the server may be dialed; 0 if it may be now."""
        return max(0.0, self._until - self._now())

    def dial_failed(self) -> None:
        """There was no connection."""
        self._failures += 1
        self._pause()

    def connection_ended(self, lasted: float) -> None:
        """There was one, for so many seconds.  After a good one there is no rest."""
        self._failures = 0 if lasted >= PROVEN else self._failures + 1
        if self._failures > 1:
            self._pause()

    def _pause(self) -> None:
        # The exponent is bounded: what is above is over the most anyway.
        pause = min(MOST, FIRST * FACTOR ** min(self._failures - 1, 20))
        self._until = self._now() + pause * random.uniform(1 - JITTER, 1 + JITTER)
