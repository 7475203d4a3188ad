"""Tests of calls that are carried out once, and of those that a server asks to make again later."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any
from unittest import mock

from support import SOON, AsyncCase, FakeServer, Peer, echoing, silent

import farcall
from farcall.calls import Request
from farcall.deadline import Deadline
from farcall.errors import Unavailable
from farcall.retries import RetryBudget, run
from farcall.wire import Header, WireError

KEY = "farcall-idempotency-key"


async def lost(peer: Peer) -> None:
    """Takes a request, and breaks the connection."""
    await peer.next()


def refusing(retry_after_ms: str, code: str = "resource_exhausted") -> Any:
    async def script(peer: Peer) -> None:
        while True:
            header, _ = await peer.next()
            error = WireError(code, "on purpose", "refused")
            metadata = {"farcall-retry-after-ms": retry_after_ms}
            peer.send(Header("response", header.seq, error=error, metadata=metadata))

    return script


class OnceTest(AsyncCase):
    async def serving(self, *scripts: Any, **terms: Any) -> farcall.Client:
        self.server = await FakeServer.start(self, *scripts, **terms)
        return await self.connect(self.server.address)

    async def test_a_call_over_a_broken_connection_is_made_again_with_its_key(self):
        heard = []

        def then(end: Any) -> Any:
            async def script(peer: Peer) -> None:
                header, value = await peer.next()
                heard.append(header.metadata)
                await end(peer, header.seq, value)

            return script

        async def cut(*_: Any) -> None:
            pass

        async def answer(peer: Peer, seq: int, value: Any) -> None:
            peer.answer(seq, value)
            await silent(peer)

        client = await self.serving(then(cut), then(answer), once_store="s")
        with mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0):
            self.assertEqual(await client.call("A.pay", n=1, once=True), {"n": 1})
        first, second = heard
        self.assertEqual(second.pop("farcall-attempt"), "2")
        self.assertEqual(first, second)
        self.assertEqual((first["farcall-once"], len(first[KEY])), ("1", 32))

    async def test_each_call_has_a_key_that_the_caller_may_choose(self):
        client = await self.serving(echoing, once_store="s")
        keys = []
        for metadata in (None, None, {KEY: "order-17"}):
            with mock.patch("farcall.calls.Request.count_attempt", autospec=True) as counted:
                await client.call("A.pay", n=1, once=True, metadata=metadata)
                keys.append(counted.call_args.args[0].metadata[KEY])
        self.assertEqual(len(set(keys)), 3)
        self.assertEqual(keys[2], "order-17")

    async def test_a_server_that_has_restarted_is_not_asked_again(self):
        async def restarting(peer: Peer) -> None:
            await peer.next()
            self.server._terms["once_store"] = "another"

        client = await self.serving(restarting, silent, once_store="s")
        call = client.call("A.pay", once=True)
        await self.assert_fails(call, farcall.Unavailable, "maybe")
        self.assertEqual(self.server.connections, 2)

    async def test_a_server_that_may_have_forgotten_is_not_asked_again(self):
        client = await self.serving(lost, silent, once_store="s")
        with mock.patch("farcall.once.MAX_REPEAT_AGE", -1.0):
            call = client.call("A.pay", once=True)
            await self.assert_fails(call, farcall.Unavailable, "maybe")
        self.assertEqual(self.server.connections, 2)

    async def test_a_call_that_was_not_begun_goes_to_any_server(self):
        async def leaving(peer: Peer) -> None:
            await peer.next()
            self.server._terms["once_store"] = "another"
            peer.send(Header("goaway", 0))
            await peer.ended()

        client = await self.serving(leaving, echoing, once_store="s")
        with mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0):
            self.assertEqual(await client.call("A.pay", n=1, once=True), {"n": 1})

    async def test_a_server_that_keeps_no_keys_gets_no_such_call(self):
        async def script(peer: Peer) -> None:
            await peer.next("goaway")

        client = await self.serving(script)
        call = client.call("A.pay", once=True)
        error = await self.assert_fails(call, farcall.Unimplemented, "not_sent")
        self.assertEqual(error.method, "A.pay")
        await client.close()

    async def test_a_call_that_is_not_carried_out_once_is_not_made_again(self):
        client = await self.serving(lost, once_store="s")
        for idempotent in (False, True):
            call = client.call("A.pay", idempotent=idempotent)
            await self.assert_fails(call, farcall.Unavailable, "maybe")

    async def test_a_call_that_waits_to_be_sent_again_ends_at_its_deadline(self):
        unsent = Unavailable("the connection ended", "not_sent")
        ended = mock.Mock(is_open=False, terms=mock.Mock(once_store=None))
        pauses = []

        async def connected(deadline: Deadline) -> mock.Mock:
            if len(pauses) == 2:
                raise deadline.exceeded("not_sent")
            return ended

        async def sleep(pause: float) -> None:
            pauses.append(pause)

        request = Request("A.b", b"", Deadline(5.0), None, 0)
        with mock.patch("farcall.retries.FIRST_PAUSE", 1e9), mock.patch("farcall.retries.sleep", sleep):
            with self.assertRaises(farcall.DeadlineExceeded):
                await run(connected, RetryBudget(), request, mock.AsyncMock(side_effect=unsent))
        self.assertTrue(all(0 < pause <= 5.0 for pause in pauses), pauses)

    async def test_no_call_is_made_more_than_three_times(self):
        client = await self.serving(lost, once_store="s")
        with mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0):
            await self.assert_fails(client.call("A.pay", once=True), farcall.Unavailable, "maybe")
        self.assertEqual(self.server.connections, 3)


class RetryAfterTest(AsyncCase):
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


class WaitingTest(AsyncCase):
    async def test_a_call_waits_for_its_turn_longer_than_connections_last(self):
        async def one_call(peer: Peer) -> None:
            header, value = await peer.next()
            peer.send(Header("goaway", header.seq))
            peer.answer(header.seq, value)
            await peer.ended()

        server = await FakeServer.start(self, one_call, max_in_flight=1)
        client = await self.connect(server.address)
        with mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0):
            answers = await asyncio.gather(*(client.call("A.b", n=n) for n in range(8)))
        self.assertEqual(answers, [{"n": n} for n in range(8)])
        self.assertEqual(server.connections, 8)


if __name__ == "__main__":
    unittest.main()
