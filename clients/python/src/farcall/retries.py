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
    is_refused_by_goaway,
)

T = TypeVar("T")

#: The number of tries that count before a call fails.
MAX_TRIES = 3
#: The number of goaways that count as no tries of one call.  Each connection refuses a request that
#: takes longer to arrive than a connection lasts, and its call must end.
MAX_GOAWAYS = 20
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
    """The tries of one call: makes them, and decides whether there is another.

    Tries that cost no server more than to read them do not count, and cost the budget nothing: those
    that were not sent, and those that a goaway has refused, up to a bound.
    """

    def __init__(
        self,
        request: Request,
        budget: RetryBudget,
        connected: Callable[[Deadline], Awaitable[Connection]],
    ) -> None:
        """Counts the call.  ``connected`` returns the connection for its next try."""
        budget.deposit()
        self._request = request
        self._budget = budget
        self._connected = connected
        self._counted = 0
        self._free = 0
        self._goaways = 0
        self._longest = FIRST_PAUSE
        # The error of a try that may have been carried out.
        self._maybe: FarcallError | None = None

    async def run(self, send: Callable[[Connection], Awaitable[T]], pause: float = 0.0) -> T:
        """Sends the request after a pause, and again while that has no second effect and may help."""
        request = self._request
        while True:
            if pause > 0:
                left = request.deadline.left
                # At its deadline the call ends, whatever it waits for.
                await sleep(pause if left is None else min(pause, max(left, 0.0)))
            request.count_attempt()
            try:
                connection = await self._connected(request.deadline)
            except FarcallError as error:
                raise self._told(error) from error.__cause__
            began = time.monotonic()
            try:
                if request.once is not None:
                    request.once.check(connection.terms.once_store)
                return await send(connection)
            except FarcallError as error:
                if request.once is not None and error.execution in ("maybe", "done"):
                    request.once.may_be_done(connection.terms.once_store, began)
                told, again = self._told(error), self.pause(error, not connection.is_open)
                if again is None:
                    raise told from error.__cause__
                pause = again

    def pause(self, error: FarcallError, has_left: bool) -> float | None:
        """Returns the seconds until the call is made again that failed so; None if it is not.

        ``has_left`` is True if the connection that it was sent over takes no more calls.
        """
        has_left = has_left and isinstance(error, Unavailable)
        if error.execution != "not_sent":
            self._request.tries += 1
        if self._is_free(error):
            # Each of these tries has a connection of its own, and those are dialed with pauses.
            self._free += 1
            return (0.0 if self._free <= MAX_TRIES else self._random_pause()) if has_left else None
        self._counted += 1
        if self._counted >= MAX_TRIES:
            return None
        pause = None
        if error.execution == "refused" and error.retry_after is not None:
            pause = asked_pause(error)
        elif error.execution == "refused" or (
            error.execution == "maybe" and self._request.once is not None
        ):
            pause = self._random_pause() if has_left else None
        if pause is None or not in_time(self._request.deadline, pause):
            return None
        return pause if self._budget.withdraw() else None

    def _is_free(self, error: FarcallError) -> bool:
        """Returns True if the failed try cost no server more than to read it."""
        if is_refused_by_goaway(error):
            self._goaways += 1
            return self._goaways <= MAX_GOAWAYS
        return error.execution == "not_sent"

    def _told(self, error: FarcallError) -> FarcallError:
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
