"""Tests of calls and streams that a server refuses: by a goaway, or for its load."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any
from unittest import mock

from scripted import StreamCase
from support import SOON, AsyncCase, FakeServer, Peer, echoing, silent

import farcall
from farcall.retries import MAX_GOAWAYS, MAX_TRIES, RetryBudget
from farcall.wire import Header, WireError


def refusing(retry_after_ms: str, code: str = "resource_exhausted") -> Any:
    async def script(peer: Peer) -> None:
        while True:
            header, _ = await peer.next()
            error = WireError(code, "on purpose", "refused")
            metadata = {"farcall-retry-after-ms": retry_after_ms}
            peer.send(Header("response", header.seq, error=error, metadata=metadata))

    return script


async def leaving(peer: Peer) -> None:
    """Says goaway, and begins nothing."""
    await peer.next()
    peer.send(Header("goaway", 0))
    await silent(peer)


async def answering(peer: Peer) -> None:
    """Answers a stream with the number of its try, after an item."""
    header, _ = await peer.next()
    peer.send(Header("item", header.seq), "item")
    peer.answer(header.seq, (header.metadata or {}).get("farcall-attempt"))
    await silent(peer)


async def no_sleep(_: float) -> None:
    pass


class GoawayTest(StreamCase):
    def setUp(self) -> None:
        # A connection that ends at once causes no pause before the next.
        for patch in (
            mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0),
            mock.patch("farcall.retries.sleep", no_sleep),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    async def test_goaways_count_as_no_tries(self):
        with mock.patch("farcall.retries.RetryBudget.withdraw", return_value=False):
            client = await self.serving(*MAX_GOAWAYS * [leaving], echoing)
            self.assertEqual(await client.call("A.b", n=1), {"n": 1})
            self.assertEqual(self.server.connections, MAX_GOAWAYS + 1)
            client = await self.serving(*MAX_GOAWAYS * [leaving], answering)
            stream = client.stream("A.b")
            self.assertEqual(await self.items_of(stream), ["item"])
            self.assertEqual(await stream.finish(), str(MAX_GOAWAYS + 1))

    async def test_a_call_that_all_connections_refuse_fails_in_the_end(self):
        client = await self.serving(leaving)
        await self.assert_fails(client.call("A.b"), farcall.Unavailable, "refused")
        self.assertEqual(self.server.connections, MAX_GOAWAYS + MAX_TRIES)
        client = await self.serving(leaving)
        stream = client.stream("A.b")
        await self.assert_fails(stream.__anext__(), farcall.Unavailable, "refused")
        self.assertEqual(self.server.connections, MAX_GOAWAYS + MAX_TRIES)

    async def test_goaways_after_the_first_few_are_followed_by_pauses(self):
        pauses: list[float] = []

        async def sleep(pause: float) -> None:
            pauses.append(pause)

        with mock.patch("farcall.retries.sleep", sleep), mock.patch("random.uniform", lambda _, most: most):
            client = await self.serving(*5 * [leaving], echoing)
            self.assertEqual(await client.call("A.b", n=1), {"n": 1})
        self.assertEqual(pauses, [0.02, 0.04])

    async def test_refusals_for_load_count_as_tries_whatever_goaways_come_between(self):
        async def refusing_once(peer: Peer) -> None:
            """Refuses one call for its load, and the next by a goaway."""
            header, _ = await peer.next()
            error = WireError("resource_exhausted", "on purpose", "refused")
            again = {"farcall-retry-after-ms": "1"}
            peer.send(Header("response", header.seq, error=error, metadata=again))
            await leaving(peer)

        client = await self.serving(refusing_once)
        await self.assert_fails(client.call("A.b"), farcall.ResourceExhausted, "refused")
        self.assertEqual(self.server.connections, MAX_TRIES)

    async def test_a_refusal_that_is_an_answer_is_no_goaway(self):
        async def stopping(peer: Peer) -> None:
            """Answers with the error of a server that stops, which says goaway then."""
            header, _ = await peer.next()
            peer.send(Header("goaway", header.seq))
            peer.fail(header.seq, "unavailable", "refused")
            await silent(peer)

        client = await self.serving(stopping)
        await self.assert_fails(client.call("A.b"), farcall.Unavailable, "refused")
        self.assertEqual(self.server.connections, MAX_TRIES)


class RetryAfterTest(StreamCase):
    async def refused(self, retry_after_ms: str, code: str = "resource_exhausted") -> list[float]:
        """Returns the pauses of a call that is always refused."""
        server = await FakeServer.start(self, refusing(retry_after_ms, code))
        client = await self.connect(server.address)
        pauses: list[float] = []

        async def sleep(pause: float) -> None:
            pauses.append(pause)

        with mock.patch("farcall.retries.sleep", sleep):
            kind = farcall.errors.BY_CODE[code]
            await self.assert_fails(client.call("A.b", timeout=20), kind, "refused")
        return pauses

    async def test_a_server_is_asked_again_after_the_time_that_it_says(self):
        pauses = await self.refused("4000")
        self.assertEqual(len(pauses), 2)
        for pause in pauses:
            self.assertTrue(4.0 <= pause <= 5.0, pause)

    async def test_a_server_that_asks_for_too_much_is_not_waited_for(self):
        self.assertEqual(await self.refused("30001"), [])  # over the largest
        self.assertEqual(await self.refused("20001"), [])  # over the timeout of the call
        self.assertEqual(await self.refused("soon"), [])

    async def test_what_would_be_refused_again_is_not_made_again(self):
        self.assertEqual(await self.refused("4000", "invalid_argument"), [])
        self.assertEqual(await self.refused("4000", "unimplemented"), [])

    async def test_a_call_that_is_asked_again_is_answered(self):
        async def busy(peer: Peer) -> None:
            header, _ = await peer.next()
            error = WireError("resource_exhausted", "busy", "refused")
            again = {"farcall-retry-after-ms": "1"}
            peer.send(Header("response", header.seq, error=error, metadata=again))
            await echoing(peer)

        server = await FakeServer.start(self, busy)
        client = await self.connect(server.address)
        self.assertEqual(await asyncio.wait_for(client.call("A.b", n=1), SOON), {"n": 1})

    async def test_a_stream_is_asked_again_after_the_time_that_the_server_says(self):
        for tries, codes in ((1, ["invalid_argument"]), (3, 3 * ["resource_exhausted"])):
            pauses: list[float] = []

            async def sleep(pause: float) -> None:
                pauses.append(pause)

            client = await self.serving(refusing("4000", codes[0]))
            kind = farcall.errors.BY_CODE[codes[0]]
            with mock.patch("farcall.retries.sleep", sleep):
                await self.assert_fails(client.stream("A.b").__anext__(), kind, "refused")
            self.assertEqual(len(pauses), tries - 1)
            for pause in pauses:
                self.assertTrue(4.0 <= pause <= 5.0, pause)

    async def test_a_stream_that_is_asked_again_sends_its_items_again(self):
        async def busy(peer: Peer) -> None:
            header, _ = await peer.next()
            self.assertEqual((await peer.next("item"))[1], 1)
            error = WireError("resource_exhausted", "busy", "refused")
            again = {"farcall-retry-after-ms": "1"}
            peer.send(Header("response", header.seq, error=error, metadata=again))
            header, _ = await peer.next()
            self.assertEqual(header.metadata, {"farcall-attempt": "2"})
            values = [(await peer.next("item"))[1], (await peer.next("item"))[1]]
            await peer.next("end")
            peer.answer(header.seq, values)
            await silent(peer)

        client = await self.serving(busy, terms={"stream_window": 1000})
        upload = client.upload("A.b")
        await upload.send(1)
        async with upload:
            while upload._call is not None and upload._call.outcome is None:
                await upload._call.changed.wait()
            await upload.send(2)
            self.assertEqual(await asyncio.wait_for(upload.finish(), SOON), [1, 2])

    async def test_a_stream_with_items_is_not_asked_again(self):
        async def late(peer: Peer) -> None:
            header, _ = await peer.next()
            peer.send(Header("item", header.seq), 1)
            error = WireError("resource_exhausted", "busy", "refused")
            again = {"farcall-retry-after-ms": "1"}
            peer.send(Header("response", header.seq, error=error, metadata=again))
            await silent(peer)

        client = await self.serving(late)
        stream = client.stream("A.b")
        await self.assert_fails_after(stream, [1], farcall.ResourceExhausted, "maybe")

    async def test_a_stream_that_waits_to_be_made_again_can_be_closed(self):
        waits, goes_on = asyncio.Event(), asyncio.Event()

        async def sleep(_: float) -> None:
            waits.set()
            await goes_on.wait()

        client = await self.serving(refusing("4000"))
        stream = client.stream("A.b")
        with mock.patch("farcall.retries.sleep", sleep):
            taken = asyncio.ensure_future(stream.__anext__())
            await asyncio.wait_for(waits.wait(), SOON)
            await stream.aclose()
            goes_on.set()
            await self.assert_fails(taken, farcall.Cancelled, "maybe", "not_sent")
        self.assertEqual(client.in_flight, 0)

    async def test_tries_stay_within_the_budget_of_the_client(self):
        server = await FakeServer.start(self, refusing("0"))
        client = await self.connect(server.address)
        with mock.patch("farcall.retries.FLOOR", 0.5):
            calls = (client.call("A.b") for _ in range(20))
            await asyncio.gather(*calls, return_exceptions=True)
            left = client._budget.withdraw()
        self.assertFalse(left)

    async def test_a_budget_is_a_share_of_the_calls_or_a_floor(self):
        clock = [0.0]
        budget = RetryBudget(lambda: clock[0])

        def spend() -> int:
            spent = 0
            while budget.withdraw():
                spent += 1
            return spent

        self.assertEqual(spend(), 100)
        clock[0] += 1.0
        self.assertEqual(spend(), 10)
        clock[0] += 3600.0
        self.assertEqual(spend(), 100)
        for _ in range(360_000):
            budget.deposit()
        clock[0] += 10.0
        self.assertEqual(spend(), 72_000)


if __name__ == "__main__":
    unittest.main()
