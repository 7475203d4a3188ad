"""The streaming calls of one connection: their items, credit and ends.

What users hold of a call is in `streaming`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from .calls import Answer, Outcome
from .codec import Codec
from .errors import FarcallError, Unavailable, refused_by_goaway
from .handshake import Terms
from .schedule import ItemSchedule
from .slots import Slots
from .stream import FrameStream
from .windows import CreditExceeded, Growth, ReceiveWindow, SendWindow, item_cost
from .wire import FLAG_STARVED, Header, ProtocolError, frame, uint

#: The cost of the items of one stream that wait for their turn, before one item more.
MAX_QUEUED = 64 * 1024
#: The unsent bytes of a connection up to which items are added: fewer than those at which
#: requests wait, so that items hold no request back.  An item of any size passes if nothing waits.
MAX_BUFFERED_ITEMS = 64 * 1024


class Item(NamedTuple):
    """An encoded item and its flags."""

    body: bytes
    flags: int


class Signal:
    """Wakes all tasks that wait for a change."""

    def __init__(self) -> None:
        # One for each waiting task.
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wakes the tasks that wait now."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """Waits for the next `notify`; returns False after the timeout in seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=timeout)
        finally:
            self._waiting.discard(waiter)
        return waiter.done()


class StreamCall:
    """One streaming call on its connection."""

    def __init__(self, streams: Streams, seq: int, *, receives: bool, sends: bool) -> None:
        self.seq = seq
        #: The outcome for the caller, once it is known.  Items that came before it remain.
        self.outcome: Outcome | None = None
        #: True once an item has arrived.
        self.has_items = False
        #: True once the server said that it takes no new calls.
        self.draining = False
        #: True while items may be sent.
        self.sends = sends
        #: Notified about everything that a caller can wait for.
        self.changed = Signal()
        self.window = SendWindow(streams.terms.stream_window)
        self._streams = streams
        self._receives = receives
        self._stopped = False
        self._received = streams.new_window()
        # Bounded by the window: what was granted and one item more.
        self._inbox: deque[Item] = deque()
        # Bounded by MAX_QUEUED and one item more.  Their credit is spent.
        self._queue: deque[Item] = deque()
        self._queued = 0
        # Until the first item or the outcome, and until the outcome.
        self._first_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # For the caller

    @property
    def may_move(self) -> bool:
        """True if its connection takes no new calls, so that another one has to be tried."""
        return self._streams.is_closed

    @property
    def max_item_bytes(self) -> int:
        """The size of the largest item that the server accepts."""
        return self._streams.terms.max_frame_bytes

    def limit_first(self, seconds: float, error: FarcallError) -> None:
        """Fails the call unless an item or the response comes within this time."""
        loop = asyncio.get_running_loop()
        self._first_timer = loop.call_later(max(0.0, seconds), self.give_up, error)

    def limit(self, seconds: float, error: FarcallError) -> None:
        """Fails the call unless the response comes within this time."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, seconds), self.give_up, error)

    def take(self) -> Item | None:
        """Takes the next item that has arrived."""
        if not self._inbox:
            return None
        item = self._inbox.popleft()
        if self.outcome is None and not self._stopped:
            credit = self._received.consume(len(item.body), time.monotonic)
            if credit is not None:
                self._streams.send_credit(self.seq, credit)
        return item

    @property
    def has_room(self) -> bool:
        """True if few enough items wait for their turn on the connection."""
        return self._queued <= MAX_QUEUED

    def push(self, body: bytes) -> None:
        """Sends an item, for which there is credit."""
        flags = FLAG_STARVED if self.window.spend(len(body)) else 0
        self._queue.append(Item(body, flags))
        self._queued += item_cost(len(body))
        self._streams.schedule(self.seq)

    def end(self) -> None:
        """Says that no more items come, behind those that were sent."""
        if not self.sends:
            return
        self.sends = False
        if self.outcome is None:
            # Not behind the items of other streams.
            items = [self.pop() for _ in range(len(self._queue))]
            self._streams.send(*items, (Header("end", self.seq), b""))
        self.changed.notify()

    def stop(self) -> None:
        """Takes no more items; the call goes on."""
        self._inbox.clear()
        if self.outcome is None and not self._stopped:
            self._stopped = True
            self._streams.send((Header("stop", self.seq), b""))

    def give_up(self, error: FarcallError) -> None:
        """Cancels the call at the server, and fails it here."""
        if self.outcome is None:
            self.finish(error)
            self._streams.send((Header("cancel", self.seq), b""))

    def abandon(self, error: FarcallError) -> None:
        """Cancels the call, of which nothing is wanted any more."""
        self.give_up(error)
        self._inbox.clear()

    # For the connection

    def next_cost(self) -> int | None:
        """Returns the cost of the next item to send."""
        return item_cost(len(self._queue[0].body)) if self._queue else None

    def pop(self) -> tuple[Header, bytes]:
        """Removes the next item to send, and returns its message."""
        body, flags = self._queue.popleft()
        self._queued -= item_cost(len(body))
        if self._queued <= MAX_QUEUED // 2:
            self.changed.notify()
        return Header("item", self.seq, flags=flags), body

    def receive(self, item: Item, now: float) -> int | None:
        """Handles an item.  Returns the credit to send, if the window grew."""
        if not self._receives:
            self.stop()
        starved = bool(item.flags & FLAG_STARVED) and not self._stopped
        credit = self._received.receive(len(item.body), starved, now)
        self.has_items = True
        _cancel(self._first_timer)
        if not self._stopped:
            self._inbox.append(item)
            self.changed.notify()
        return credit

    def peer_stopped(self) -> None:
        """Sends no more items, because the server takes none."""
        self.sends = False
        self._drop_queue()
        self.changed.notify()

    def drain(self) -> None:
        """Tells the caller that the server drains."""
        self.draining = True
        self.changed.notify()

    def shrink(self, now: float) -> float | None:
        """Shrinks the window if that is due; returns the time at which it is due next."""
        self._received.shrink(now)
        return self._received.shrink_at

    def finish(self, outcome: Outcome) -> None:
        """Ends both directions.  The first outcome counts."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        self.sends = False
        self._drop_queue()
        self._received.end()
        _cancel(self._first_timer)
        _cancel(self._timer)
        self.changed.notify()

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._queued = 0


class Streams:
    """The streaming calls of one connection."""

    def __init__(
        self,
        stream: FrameStream,
        codec: Codec,
        terms: Terms,
        *,
        window: int,
        max_window: int,
        max_growth: int,
        max_waiting: int,
    ) -> None:
        self.terms = terms
        self.slots = Slots(terms.max_streams or 0, max_waiting)
        #: True once the connection takes no new calls.
        self.is_closed = False
        self._stream = stream
        self._codec = codec
        self._window = window
        self._max_window = max_window
        self._growth = Growth(max_growth)
        # Calls without a response, also those that were cancelled.  Bounded by the slots.
        self._calls: dict[int, StreamCall] = {}
        self._schedule = ItemSchedule()
        self._writer: asyncio.Task[None] | None = None
        self._shrink_timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, seq: int, *, receives: bool, sends: bool) -> StreamCall:
        """Adds the call of a request that was written."""
        call = self._calls[seq] = StreamCall(self, seq, receives=receives, sends=sends)
        return call

    def new_window(self) -> ReceiveWindow:
        """Returns the window of a stream that begins."""
        return ReceiveWindow(self._window, self._max_window, self._growth)

    def send(self, *messages: tuple[Header, bytes]) -> None:
        """Sends messages at once, before the items that wait."""
        self._stream.write(b"".join(self._frames(messages)))

    def send_credit(self, seq: int, limit: int) -> None:
        """Tells the server what it may have spent."""
        self.send((Header("credit", seq), self._codec.encode(limit)))

    def _frames(self, messages: Iterable[tuple[Header, bytes]]) -> Iterable[bytes]:
        for header, body in messages:
            yield frame(self._codec.encode_header(header))
            yield frame(body)

    # Receiving

    def handle(self, header: Header, body: bytes) -> None:
        """Handles an item, a credit or a stop.  What is for no call in flight is ignored.

        Raises `ProtocolError`.
        """
        call = self._calls.get(header.seq)
        if header.kind == "credit":
            # Checked also if its call is over: its form does not depend on when it comes.
            limit = self._limit_of(body)
            if call is not None and call.window.grant(limit):
                call.changed.notify()
        elif call is None or call.outcome is not None:
            pass
        elif header.kind == "stop":
            call.peer_stopped()
        else:
            self._receive(call, Item(body, header.flags))

    def _limit_of(self, body: bytes) -> int:
        try:
            return uint(self._codec.decode(body), "the body of a credit")
        except ValueError as error:
            raise ProtocolError(f"the body of a credit is {error}") from None

    def _receive(self, call: StreamCall, item: Item) -> None:
        try:
            credit = call.receive(item, time.monotonic())
        except CreditExceeded as error:
            raise ProtocolError(f"call {call.seq}: {error}") from None
        if credit is not None:
            self.send_credit(call.seq, credit)
            if self._shrink_timer is None:
                self._shrink()

    def settle(self, seq: int, outcome: Answer | FarcallError) -> bool:
        """Ends a call.  Returns False if no such call is in flight."""
        call = self._calls.pop(seq, None)
        if call is None:
            return False
        self.slots.release()
        call.finish(outcome)
        return True

    def close(self, why: str) -> None:
        """Begins no more calls.  Those in flight go on."""
        self.is_closed = True
        self.slots.close(why)

    def drain(self, last: int, why: str) -> None:
        """Ends the calls above the server's last, and tells the others that it drains."""
        for seq in [seq for seq in self._calls if seq > last]:
            self.settle(seq, refused_by_goaway(why))
        for call in self._calls.values():
            call.drain()

    def end(self, why: str) -> None:
        """Ends all calls, because the connection has ended."""
        for seq in list(self._calls):
            self.settle(seq, Unavailable(why, "maybe"))
        _cancel(self._shrink_timer)
        if self._writer is not None:
            self._writer.cancel()

    # Sending items

    def schedule(self, seq: int) -> None:
        """Lets a stream that has an item take part in the turns."""
        self._schedule.add(seq)
        if self._writer is None:
            # Begins when the current tasks pause, and so writes many small items at once.
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        try:
            while len(self._schedule):
                self._write_items()
                with contextlib.suppress(OSError):  # the reader reports the error
                    await self._stream.flush()
                await asyncio.sleep(0)  # also where the socket takes everything
        finally:
            self._writer = None

    def _write_items(self) -> None:
        parts: list[bytes] = []
        waiting = self._stream.buffered
        while True:
            room = MAX_BUFFERED_ITEMS - waiting if waiting else sys.maxsize
            seq = self._schedule.next(room, self._next_cost)
            if seq is None:
                break
            item = self._calls[seq].pop()
            parts += self._frames([item])
            waiting += item_cost(len(item[1]))
        self._stream.write(b"".join(parts))

    def _next_cost(self, seq: int) -> int | None:
        call = self._calls.get(seq)
        return None if call is None else call.next_cost()

    # Windows that are not needed any more

    def _shrink(self) -> None:
        now = time.monotonic()
        due = [call.shrink(now) for call in self._calls.values()]
        times = [at for at in due if at is not None]
        self._shrink_timer = None
        if times:
            loop = asyncio.get_running_loop()
            self._shrink_timer = loop.call_later(max(0.0, min(times) - now), self._shrink)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
