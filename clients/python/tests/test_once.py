"""Tests of calls that are carried out once, and of those that wait for their turn."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any
from unittest import mock

from support import AsyncCase, FakeServer, Peer, echoing, silent

import farcall
from farcall.calls import Request
from farcall.deadline import Deadline
from farcall.errors import Unavailable
from farcall.retries import Attempts, RetryBudget
from farcall.wire import Header

KEY = "farcall-idempotency-key"


async def lost(peer: Peer) -> None:
    """Takes a request, and breaks the connection."""
    await peer.next()


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

        # An empty name is none.
        for terms in ({}, {"once_store": None}, {"once_store": ""}):
            client = await self.serving(script, **terms)
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
                await Attempts(request, RetryBudget(), connected).run(mock.AsyncMock(side_effect=unsent))
        self.assertTrue(all(0 < pause <= 5.0 for pause in pauses), pauses)

    async def test_no_call_is_made_more_than_three_times(self):
        client = await self.serving(lost, once_store="s")
        with mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0):
            await self.assert_fails(client.call("A.pay", once=True), farcall.Unavailable, "maybe")
        self.assertEqual(self.server.connections, 3)


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
