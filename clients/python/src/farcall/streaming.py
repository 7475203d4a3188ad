"""A streaming call: opens it, makes it again elsewhere, and passes its items."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from dataclasses import dataclass, replace
from typing import Any, Callable, TypeVar

from .calls import Request, failure_of, result_of
from .codec import Codec
from .connection import Connection
from .deadline import Deadline, within
from .errors import (
    Cancelled,
    DeadlineExceeded,
    Execution,
    FarcallError,
    InternalError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    short,
)
from .resume import Resume
from .retries import Attempts
from .streams import StreamCall
from .wire import FLAG_COMPRESSED

Self = TypeVar("Self", bound="Streaming")

#: The bytes of items that are kept until the first sign of the server, to be sent again.
MAX_KEPT = 64 * 1024
#: The number of items after which other tasks run, even if the next one is there already.
ITEMS_PER_TURN = 128


@dataclass
class StreamLimits:
    """The time limits of a streaming call, in seconds; None is no limit."""

    #: For the whole call.
    timeout: float | None
    #: Until the first item or the response.
    first_within: float | None
    #: Between two items, counted while the caller waits.
    gap: float | None
    #: For an item to wait for credit.
    stall: float


class Streaming:
    """What all streaming calls have in common.

    Each public class, in `directions`, says in which directions items go.
    """

    _receives = False
    _sends = False

    def __init__(
        self,
        attempts: Callable[[Request], Attempts],
        codec: Codec,
        request: Request,
        limits: StreamLimits,
        resume: Resume | None = None,
    ) -> None:
        self._begin_attempts = attempts
        self._attempts: Attempts | None = None
        # The call that failed and is not made again.
        self._failed: StreamCall | None = None
        self._resume = resume
        # The call of a draining server that could not be replaced yet.
        self._stays: StreamCall | None = None
        self._codec = codec
        self._request = request
        self._limits = limits
        self._first: Deadline | None = None
        # The call on its connection; None before it is opened.
        self._call: StreamCall | None = None
        # The reason why it could not be opened, or was closed before.
        self._failure: FarcallError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock | None = None
        self._sending: asyncio.Lock | None = None
        # The items to send again if the call is made again; None if they are too many.
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self._said_end = False
        # The number of items that were asked for.
        self._turn = 0
        self._took_all = False

    def __repr__(self) -> str:
        return f"<farcall.{type(self).__name__} of {short(self._request.method)}>"

    @property
    def draining(self) -> bool:
        """True if the server drains: the call goes on, as long as the server lets it."""
        return self._call is not None and self._call.draining

    async def wait_draining(self) -> bool:
        """Waits until the server drains, or the call is over.  Returns True if it drains."""
        call = await self._opened()
        while not call.draining and call.outcome is None:
            await call.changed.wait()
        return call.draining

    async def aclose(self) -> None:
        """Cancels the call, if it is not over.  It is the same as dropping the object."""
        error = Cancelled("the caller closed it", "not_sent")
        if self._call is not None:
            error.execution = "maybe"
            self._call.abandon(error)
        opens = self._opening is not None and self._opening.locked()
        if self._failure is None and (self._call is None or opens):
            self._failure = self._at_fault(error)
        self._took_all = True

    async def __aenter__(self: Self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A caller that forgets the call must not leave it running at the server.
        call, loop = getattr(self, "_call", None), getattr(self, "_loop", None)
        if call is not None and call.outcome is None and loop is not None and not loop.is_closed():
            # Not at once: the collector may run anywhere, and in any thread.
            dropped = Cancelled("the caller dropped it", "maybe")
            with contextlib.suppress(RuntimeError):  # closed at this moment
                loop.call_soon_threadsafe(call.abandon, dropped)

    async def _finish(self) -> Any:
        """Ends both directions, and returns the final value."""
        self._end()
        self._stop()
        while True:
            call = await self._opened()
            if call.outcome is None:
                # They may have been said before the call was opened.
                self._end()
                self._stop()
                await call.changed.wait()
            elif not await self._made_again(call):
                return self._result(call)

    def _end(self) -> None:
        self._said_end = True
        if self._call is not None:
            self._call.end()

    def _stop(self) -> None:
        self._took_all = True
        if self._receives and self._call is not None:
            self._call.stop()

    def _result(self, call: StreamCall) -> Any:
        """Returns the final value of a call that is over, or raises its error."""
        outcome = call.outcome
        assert outcome is not None
        try:
            if isinstance(outcome, FarcallError):
                # A copy, because each caller adds a traceback to it.
                raise copy.copy(outcome)
            return result_of(self._codec, outcome)
        except FarcallError as error:
            error.method = self._request.method
            if call.has_items and error.execution in ("refused", "not_sent"):
                error.execution = "maybe"  # what began was not refused
            raise

    # Opening

    async def _opened(self) -> StreamCall:
        """Returns the call, and opens it if that was not done."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            # Here, because Python 3.9 binds locks to an event loop at once.
            self._opening, self._sending = asyncio.Lock(), asyncio.Lock()
            self._request.deadline = Deadline(self._limits.timeout)
            self._first = Deadline(self._limits.first_within)
            self._attempts = self._begin_attempts(self._request)
        elif self._loop is not loop:
            raise RuntimeError("a stream belongs to the event loop in which it was opened")
        assert self._opening is not None
        if self._call is None or self._opening.locked():
            async with self._opening:
                if self._call is None:
                    await self._open()
        assert self._call is not None
        return self._call

    async def _open(self, pause: float = 0.0) -> None:
        if self._failure is not None:
            raise copy.copy(self._failure)
        assert self._first is not None and self._attempts is not None
        before = self._call
        try:
            opening = self._attempts.run(self._begin, pause)
            if self._first.left is None:
                await opening
            else:
                await within(self._first.left, opening)
        except asyncio.TimeoutError:
            if self._call is before:
                self._failure = self._too_late(self._first, "not_sent")
                raise copy.copy(self._failure) from None
        except FarcallError as error:
            self._failure = error
            raise

    async def _begin(self, connection: Connection) -> None:
        if self._failure is not None:  # closed before it was sent again
            raise copy.copy(self._failure)
        request = self._request
        call = await connection.open_stream(request, receives=self._receives, sends=self._sends)
        # Recorded here already, because the caller may be cancelled at this moment.
        self._call = call
        if self._failure is not None:  # closed meanwhile
            call.abandon(self._failure)
            return
        assert self._first is not None
        first, whole = self._first.left, request.deadline.left
        if first is not None:
            call.limit_first(first, self._too_late(self._first, "maybe"))
        if whole is not None:
            call.limit(whole, request.deadline.exceeded("maybe"))

    def _too_late(self, first: Deadline, execution: Execution) -> FarcallError:
        return self._at_fault(first.exceeded(execution, "no item and no response"))

    async def _made_again(self, call: StreamCall) -> bool:
        """Makes the call again if it failed before anything came of it and may be made again.

        Returns False if the outcome stays.
        """
        assert self._opening is not None and call.outcome is not None
        async with self._opening:
            if self._call is not call:
                return True
            error, kept = failure_of(call.outcome), self._kept
            if error is None or call is self._failed or call.has_items or kept is None:
                return False
            assert self._attempts is not None
            pause = self._attempts.pause(error, call.may_move)
            if pause is None:
                self._failed = call
                return False
            await self._open(pause)
            await self._repeat(kept)
        return True

    async def _replaced(self, call: StreamCall) -> bool:
        """Makes the call again that is over, or goes on from its last item, if it may."""
        try:
            if await self._made_again(call):
                return True
        except Unavailable:
            if self._resume is None:
                raise
            self._failure = None
        return await self._goes_on(call)

    async def _goes_on(self, call: StreamCall) -> bool:
        """Calls the method again from the last item on, and lets go of the call so far.

        Returns False if that call stays.  It is still open if its server drains.
        """
        resume = self._resume
        drains = call.outcome is None
        if resume is None or not (drains or isinstance(call.outcome, Unavailable)):
            return False
        while (pause := resume.next_pause()) is not None:
            left = self._request.deadline.left
            await asyncio.sleep(pause if left is None else max(0.0, min(pause, left)))
            assert self._opening is not None
            async with self._opening:
                if self._took_all:  # closed meanwhile
                    return False
                if self._call is not call:
                    return True
                self._request = replace(self._request, body=resume.body(), tries=0)
                self._first = Deadline(self._limits.first_within)
                self._attempts = self._begin_attempts(self._request)
                try:
                    await self._open()
                except (DeadlineExceeded, Unavailable) as error:
                    if drains:
                        self._failure = None
                        return False  # it may last until there is another server
                    if isinstance(error, DeadlineExceeded):
                        raise
                    self._failure = None
                    continue
            call.abandon(Cancelled("it went on elsewhere", "maybe"))
            return True
        return False

    async def _repeat(self, kept: list[bytes]) -> None:
        """Does again what was done before the call was made again."""
        call = self._call
        assert call is not None
        for body in kept:
            if not await self._has_credit(call):
                return
            call.push(body)
        if self._said_end:
            call.end()
        if self._took_all and self._receives:
            call.stop()

    # Items

    async def _next(self) -> Any:
        """Returns the next item; raises StopAsyncIteration after the last."""
        gap: Deadline | None = None
        self._turn += 1
        if self._turn % ITEMS_PER_TURN == 0:
            await asyncio.sleep(0)
        while not self._took_all:
            call = await self._opened()
            if call.draining and call.outcome is None and call is not self._stays:
                self._stays = call  # this is tried once
                if await self._goes_on(call):
                    continue
            item = call.take()
            if item is not None:
                value = self._value(call, item.body, item.flags)
                if self._resume is not None:
                    self._resume.taken(value)
                return value
            if call.outcome is not None:
                if await self._replaced(call):
                    continue
                self._took_all = True
                self._result(call)  # raises its error
                break
            gap = gap or Deadline(self._limits.gap if call.has_items else None)
            left = gap.left
            if left is not None and left <= 0:
                call.give_up(gap.exceeded("maybe", "no item after the one before (gap)"))
                continue
            await call.changed.wait(left)
            if self._took_all and call.outcome is not None:
                self._result(call)  # closed by another task: that is not the end of the items
        raise StopAsyncIteration

    def _value(self, call: StreamCall, body: bytes, flags: int) -> Any:
        fault = "it is compressed, which was not agreed on"
        if not flags & FLAG_COMPRESSED:
            try:
                return self._codec.decode(body)
            except ValueError as cause:
                fault = f"it is {cause}"
        error = self._at_fault(InternalError(f"an item cannot be read: {fault}", "maybe"))
        call.abandon(error)
        self._took_all = True
        raise copy.copy(error)

    async def _send(self, item: Any) -> bool:
        try:
            body = self._codec.encode(item)  # now, so that later changes have no effect
        except (ValueError, TypeError, OverflowError, RecursionError) as cause:
            raise self._at_fault(
                InvalidArgument(f"the item cannot be encoded: {cause}", "maybe")
            ) from cause
        if self._said_end:
            raise RuntimeError("no item can be sent after the end")
        await self._opened()
        assert self._sending is not None
        async with self._sending:  # items leave in the order in which they were given
            while True:
                call = await self._opened()
                if len(body) > call.max_item_bytes:
                    raise self._at_fault(
                        ResourceExhausted(
                            f"an item of {len(body)} bytes is over the server's limit of "
                            f"{call.max_item_bytes} bytes (its max_frame_bytes)",
                            "maybe",
                        )
                    )
                if await self._has_credit(call):
                    # No await since it was found, so the call is still that of the stream.
                    call.push(body)
                    self._keep(call, body)
                    return True
                if call.outcome is not None and await self._made_again(call):
                    continue
                if call.outcome is not None:
                    self._result(call)  # raises its error
                return False

    def _at_fault(self, error: FarcallError) -> FarcallError:
        error.method = self._request.method
        return error

    def _keep(self, call: StreamCall, body: bytes) -> None:
        if self._kept is None:
            return
        self._kept_bytes += len(body)
        if call.has_items or self._kept_bytes > MAX_KEPT:
            self._kept = None
        else:
            self._kept.append(body)

    async def _has_credit(self, call: StreamCall) -> bool:
        """Waits until an item may be sent.  Returns False if the server takes no more."""
        stall: Deadline | None = None
        while call.sends:
            left = None
            if call.has_room:
                if call.window.check():
                    return True
                stall = stall or Deadline(self._limits.stall)
                left = stall.left
                if left is not None and left <= 0:
                    call.give_up(
                        ResourceExhausted(
                            f"the server granted no credit within {self._limits.stall:g} s "
                            "(stream_stall)",
                            "maybe",
                        )
                    )
                    continue
            await call.changed.wait(left)
        return False
