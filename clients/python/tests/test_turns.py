"""Tests of the order and the bounds of what a connection sends for its streams."""

from __future__ import annotations

import asyncio
import unittest
from unittest import mock

from support import AsyncCase

from farcall.codec import JsonCodec
from farcall.errors import Cancelled
from farcall.handshake import Terms
from farcall.streams import MAX_BUFFERED_ITEMS, MAX_QUEUED, StreamCall, Streams
from farcall.windows import item_cost
from farcall.wire import Header

KIB = 1024


class SlowStream:
    """A stream whose bytes are sent when the test says so."""

    def __init__(self):
        self.buffered = 0
        #: The kinds and calls of all messages, in order.
        self.messages: list[tuple[str, int]] = []
        self._sent = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.buffered += len(data)
        codec, frames = JsonCodec(), []
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            frames.append(data[4:end])
            data = data[end:]
        for header in map(codec.decode_header, frames[::2]):
            self.messages.append((header.kind, header.seq))

    async def flush(self) -> None:
        while self.buffered:
            await self._sent.wait()

    def send_all(self) -> None:
        self.buffered = 0
        self._sent.set()
        self._sent.clear()


class TurnsTest(AsyncCase):
    def setUp(self):
        self.stream: SlowStream | None = None

    def streams(self, window: int = 1 << 40, growth: int = 0) -> Streams:
        self.stream = SlowStream()
        terms = Terms(4 << 20, 1024, None, 256, 1 << 40)
        streams = Streams(
            self.stream,
            JsonCodec(),
            terms,
            window=window,
            max_window=1 << 40,
            max_growth=growth,
            max_waiting=10,
        )
        self.addAsyncCleanup(self.end, streams)
        return streams

    async def end(self, streams: Streams) -> None:
        streams.end("the test has ended")
        await asyncio.sleep(0)

    def fill(self, call: StreamCall, count: int, size: int) -> None:
        for _ in range(count):
            call.push(b"1" * size)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def drain(self) -> None:
        """Sends everything."""
        before = -1
        while before != len(self.stream.messages):
            before = len(self.stream.messages)
            self.stream.send_all()
            await self.settle()

    async def test_few_items_wait_in_the_outgoing_buffer(self):
        streams = self.streams()
        calls = [streams.begin(seq, receives=True, sends=True) for seq in range(1, 5)]
        for call in calls:
            self.fill(call, 30, 2 * KIB)
        await self.settle()
        self.assertLessEqual(self.stream.buffered, MAX_BUFFERED_ITEMS)
        self.assertGreater(self.stream.buffered, MAX_BUFFERED_ITEMS // 2)
        await self.drain()
        self.assertEqual(len(self.stream.messages), 120)

    async def test_an_item_larger_than_the_buffer_passes_if_nothing_waits(self):
        streams = self.streams()
        for seq in (1, 2):
            self.fill(streams.begin(seq, receives=True, sends=True), 1, 1000 * KIB)
        await self.settle()
        self.assertEqual(self.stream.messages, [("item", 1)])
        await self.drain()
        self.assertEqual(self.stream.messages, [("item", 1), ("item", 2)])

    async def test_credits_stops_ends_and_cancels_wait_for_no_item(self):
        streams = self.streams(window=200)
        full, reading, ending, stopping, leaving = (
            streams.begin(seq, receives=True, sends=True) for seq in range(1, 6)
        )
        for call in (full, ending, leaving):
            self.fill(call, 20, 10 * KIB)
        await self.settle()
        waiting = len(self.stream.messages)
        streams.handle(Header("item", 2), b"1" * 100)
        reading.take()
        stopping.stop()
        leaving.abandon(Cancelled("on purpose"))
        self.assertEqual(
            self.stream.messages[waiting:], [("credit", 2), ("stop", 4), ("cancel", 5)]
        )
        waiting = len(self.stream.messages)
        ending.end()
        ended = self.stream.messages[waiting:]
        self.assertEqual(ended[-1], ("end", 3))
        self.assertEqual(set(ended[:-1]), {("item", 3)})  # behind its own items alone
        await self.drain()
        sent = self.stream.messages
        self.assertEqual([sent.count(("item", seq)) for seq in (1, 3)], [20, 20])
        self.assertLess(sent.count(("item", 5)), 20)  # the rest was dropped

    async def test_streams_take_turns_by_bytes(self):
        streams = self.streams()
        small, large = (streams.begin(seq, receives=True, sends=True) for seq in (1, 2))
        self.fill(small, 200, 1000)
        self.fill(large, 20, 10_000)
        await self.drain()
        half = self.stream.messages[: len(self.stream.messages) // 2]
        shares = [half.count(("item", 1)) * 1000, half.count(("item", 2)) * 10_000]
        self.assertLess(max(shares) - min(shares), 50_000, shares)

    async def test_the_items_of_a_stream_that_wait_are_bounded(self):
        streams = self.streams()
        call = streams.begin(1, receives=True, sends=True)
        pushed = 0
        while call.has_room:
            self.fill(call, 1, KIB)
            pushed += item_cost(KIB)
        self.assertLessEqual(pushed, MAX_QUEUED + item_cost(KIB))
        waiting = asyncio.ensure_future(call.changed.wait())
        await self.drain()
        self.assertTrue(await waiting)
        self.assertTrue(call.has_room)

    async def test_windows_grow_together_and_shrink_when_they_are_not_needed(self):
        streams = self.streams(window=1000, growth=1500)
        one, two = (streams.begin(seq, receives=True, sends=True) for seq in (1, 2))

        def starve(call: StreamCall) -> None:
            for _ in range(20):
                streams.handle(Header("item", call.seq, flags=16), b"1" * 436)
                call.take()

        starve(one)
        starve(two)  # for which there is too little left
        sizes = [call._received.size for call in (one, two)]
        self.assertEqual(sizes, [2000, 1000])
        self.assertIsNotNone(streams._shrink_timer)
        with mock.patch("farcall.windows.SHRINK_AFTER", 0.0):
            streams._shrink()  # as the timer does
        self.assertEqual(one._received.size, 1000)
        starve(two)
        self.assertEqual(two._received.size, 2000)
        streams.settle(2, Cancelled("on purpose"))  # gives back what it had
        starve(one)
        self.assertEqual(one._received.size, 2000)

    async def test_a_response_or_a_stop_drops_the_items_that_wait(self):
        streams = self.streams()
        answered, stopped = (streams.begin(seq, receives=True, sends=True) for seq in (1, 2))
        for call in (answered, stopped):
            self.fill(call, 3, 60 * KIB)
        streams.handle(Header("stop", 2), b"")
        streams.settle(1, Cancelled("on purpose"))
        await self.drain()
        self.assertEqual(self.stream.messages, [])
        self.assertFalse(stopped.sends or answered.sends)
        self.assertEqual(len(streams), 1)


if __name__ == "__main__":
    unittest.main()
