"""How long a server is left alone that cannot be connected."""

from __future__ import annotations

import random
import time
from typing import Callable

# gRPC's connection backoff: https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
FIRST = 1.0
FACTOR = 1.6
MAX = 120.0
JITTER = 0.2

#: The uptime in seconds from which a connection counts as healthy: a server that closes
#: connections immediately is not dialed again immediately.
MIN_HEALTHY_UPTIME = 1.0


class Backoff:
    """The pause before the next dial, which grows with consecutive failures."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._until = now()

    @property
    def pause(self) -> float:
        """The seconds until the next dial is allowed; 0 if it is allowed now."""
        return max(0.0, self._until - self._now())

    def dial_failed(self) -> None:
        """Records a failed dial."""
        self._failures += 1
        self._start_pause()

    def connection_ended(self, lasted: float) -> None:
        """Records the end of a connection that lasted this many seconds.

        No pause follows a healthy connection.
        """
        self._failures = 0 if lasted >= MIN_HEALTHY_UPTIME else self._failures + 1
        if self._failures > 1:
            self._start_pause()

    def _start_pause(self) -> None:
        # The exponent is bounded: larger ones exceed the maximum anyway.
        pause = min(MAX, FIRST * FACTOR ** min(self._failures - 1, 20))
        self._until = self._now() + pause * random.uniform(1 - JITTER, 1 + JITTER)
