"""Which calls that failed are made again, and when (``docs/PROTOCOL.md``, sections 10.1 and 11.3)."""

from __future__ import annotations

import random
import time
from asyncio import sleep
from collections.abc import Awaitable
from typing import Callable, TypeVar

from .calls import Request
from .connection import Connection
from .deadline import Deadline
from .errors import (
    FarcallError,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

T = TypeVar("T")

#: The number of times that a call is sent before it fails.
MAX_TRIES = 3
#: The longest time that a server may ask to wait for, in seconds.
MAX_RETRY_AFTER = 30.0
#: The longest pause before the second try, in seconds, and before any: it doubles with each.  The
#: pause is a random part of it.
FIRST_PAUSE = 0.02
MAX_PAUSE = 1.0
#: The share of a client's calls that may be made again, and the tries in a second that always may.
SHARE = 0.2
FLOOR = 10.0
#: The time in seconds for which calls and tries count.
WINDOW = 10.0


class RetryBudget:
    """The number of tries that the calls of a client may repeat together.

    It is a share of its calls, or a small number if that is more, so that tries do not add load to
    servers that have too much.  Requests that no server has begun with cost it nothing, unless the
    server has refused them for its load.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._at = now()
        # The calls since then; and those before and the tries, older ones with less weight.
        self._new = 0
        self._calls = 0.0
        self._tries = 0.0

    def deposit(self) -> None:
        """Counts a call."""
        self._new += 1

    def withdraw(self) -> bool:
        """Withdraws one try.  Returns False if none is left."""
        now = self._now()
        passed = now - self._at
        # Of calls over a longer time than the window, the part within it counts.
        recent = self._new * WINDOW / passed if passed > WINDOW else self._new
        kept = 1.0 - min(passed, WINDOW) / WINDOW
        self._calls = self._calls * kept + recent
        self._tries *= kept
        self._at, self._new = now, 0
        if max(SHARE * self._calls, FLOOR * WINDOW) - self._tries < 1.0:
            return False
        self._tries += 1.0
        return True


class Attempts:
    """The tries of one call so far."""

    def __init__(self, request: Request, budget: RetryBudget) -> None:
        self._request = request
        self._budget = budget
        self._unsent = 0
        self._longest = FIRST_PAUSE
        # The error of a try that may have been carried out.
        self._maybe: FarcallError | None = None

    def pause(self, error: FarcallError, connection: Connection) -> float | None:
        """Returns the seconds until the call is made again, that failed there; None if it is not."""
        left_it = isinstance(error, Unavailable) and not connection.is_open
        if error.execution == "not_sent":
            # A connection that ends while calls wait for their turn on it is not their fault, and
            # happens to all of them that often.  Each of these tries has a connection of its own,
            # and those are dialed with pauses.
            self._unsent += 1
            return (0.0 if self._unsent <= MAX_TRIES else self._random_pause()) if left_it else None
        self._request.tries += 1
        if self._request.tries >= MAX_TRIES:
            return None
        if error.execution == "refused" and left_it:
            return 0.0
        pause = None
        if error.execution == "refused":
            pause = asked_pause(error)
        elif error.execution == "maybe" and self._request.once is not None and left_it:
            pause = self._random_pause()
        if pause is None or not in_time(self._request.deadline, pause):
            return None
        return pause if self._budget.withdraw() else None

    def failed(self, error: FarcallError) -> FarcallError:
        """Returns the error that tells most: a try that was not made hides none that was."""
        error.method = self._request.method
        if error.execution == "maybe":
            self._maybe = error
        elif self._maybe is not None and error.execution in ("refused", "not_sent"):
            return self._maybe
        return error

    def _random_pause(self) -> float:
        longest, self._longest = self._longest, min(2 * self._longest, MAX_PAUSE)
        return random.uniform(0.0, longest)


async def run(
    connected: Callable[[Deadline], Awaitable[Connection]],
    budget: RetryBudget,
    request: Request,
    send: Callable[[Connection], Awaitable[T]],
) -> T:
    """Sends a request over a connection, and again while that has no second effect and may help."""
    budget.deposit()
    attempts = Attempts(request, budget)
    while True:
        request.count_attempt()
        try:
            connection = await connected(request.deadline)
        except FarcallError as error:
            raise attempts.failed(error) from error.__cause__
        began = time.monotonic()
        try:
            if request.once is not None:
                request.once.check(connection.terms.once_store)
            return await send(connection)
        except FarcallError as error:
            if request.once is not None and error.execution in ("maybe", "done"):
                request.once.may_be_done(connection.terms.once_store, began)
            told, pause = attempts.failed(error), attempts.pause(error, connection)
            if pause is None:
                raise told from error.__cause__
        if pause > 0:
            left = request.deadline.left
            # At its deadline the call ends, whatever it waits for.
            await sleep(pause if left is None else min(pause, max(left, 0.0)))


def asked_pause(error: FarcallError) -> float | None:
    """Returns the time for which the server asks to wait, and a part of it more, in seconds.

    None if it does not ask, asks for too much, or would give the same answer.
    """
    same = (InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented)
    asked = error.retry_after
    if asked is None or asked > MAX_RETRY_AFTER or isinstance(error, same):
        return None
    return asked * random.uniform(1.0, 1.25)


def in_time(deadline: Deadline, pause: float) -> bool:
    """Returns True if a try after the pause is before the deadline."""
    left = deadline.left
    return left is None or pause < left
