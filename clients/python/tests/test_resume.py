"""Tests of streams that go on elsewhere, against a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import unittest
from typing import Any
from unittest import mock

from scripted import StreamCase
from support import SOON, Peer, silent

import farcall
from farcall.wire import Header, WireError

DRAINING = WireError("unavailable", "draining", "maybe")


async def counting(peer: Peer) -> None:
    """Sends the numbers from the argument up to 5, and answers."""
    header, value = await peer.next()
    for number in range(value["from"], 6):
        peer.send(Header("item", header.seq), number)
    peer.answer(header.seq, "done")
    await silent(peer)


def after(last: int) -> dict[str, int]:
    return {"from": last + 1}


class ResumeTest(StreamCase):
    def setUp(self):
        # Connections that end at once cause no pause between the calls.
        self.enter(mock.patch("farcall.backoff.MIN_HEALTHY_UPTIME", 0.0))
        self.enter(mock.patch("farcall.resume.FIRST_PAUSE", 0.001))

    def enter(self, patch: Any) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(patch)
        self.addCleanup(stack.close)

    async def test_a_lost_stream_goes_on_after_its_last_item(self):
        async def cut(peer: Peer) -> None:
            header, value = await peer.next()
            peer.send(Header("item", header.seq), value["from"])
            peer.send(Header("item", header.seq), value["from"] + 1)

        async def cut_before_an_item(peer: Peer) -> None:
            self.assertEqual((await peer.next())[1], {"from": 5})

        for codec in ("json", "msgpack"):
            client = await self.serving(cut, cut, cut_before_an_item, counting, codec=codec)
            stream = client.stream("A.b", {"from": 1}, resume=after)
            self.assertEqual(await self.items_of(stream), [1, 2, 3, 4, 5])
            self.assertEqual(await stream.finish(), "done")
            self.assertEqual((self.server.connections, client.in_flight), (4, 0))

    async def test_a_stream_of_a_draining_server_goes_on_before_it_is_let_go(self):
        async def draining(peer: Peer) -> None:
            header, _ = await peer.next()
            for number in (1, 2):
                peer.send(Header("item", header.seq), number)
            peer.send(Header("goaway", header.seq, error=DRAINING))
            await peer.next("cancel")
            self.assertTrue(opened.is_set())
            peer.fail(header.seq, "cancelled", "maybe")
            let_go.set()

        async def next_one(peer: Peer) -> None:
            opened.set()
            await asyncio.wait_for(let_go.wait(), SOON)
            await counting(peer)

        opened, let_go = asyncio.Event(), asyncio.Event()
        client = await self.serving(draining, next_one)
        stream = client.stream("A.b", {"from": 1}, resume=after)
        self.assertEqual(await self.items_of(stream), [1, 2, 3, 4, 5])
        self.assertEqual(await stream.finish(), "done")

    async def test_a_stream_stays_at_a_draining_server_without_a_successor(self):
        async def draining(peer: Peer) -> None:
            header, _ = await peer.next()
            self.server._server.close()
            peer.send(Header("goaway", header.seq, error=DRAINING))
            peer.send(Header("item", header.seq), 1)
            peer.answer(header.seq, "done")

        client = await self.serving(draining)
        stream = client.stream("A.b", {"from": 1}, resume=after)
        self.assertEqual(await self.items_of(stream), [1])
        self.assertEqual(await stream.finish(), "done")

    async def test_a_stream_ends_after_some_calls_without_an_item(self):
        async def cut(peer: Peer) -> None:
            await peer.next()

        self.enter(mock.patch("farcall.resume.MAX_FRUITLESS", 3))
        client = await self.serving(cut)
        stream = client.stream("A.b", {"from": 1}, resume=after)
        await self.assert_fails_after(stream, [], farcall.Unavailable, "maybe")
        self.assertEqual(self.server.connections, 4)

    async def test_other_errors_end_a_stream(self):
        async def failing(peer: Peer) -> None:
            header, _ = await peer.next()
            peer.send(Header("item", header.seq), 1)
            peer.fail(header.seq, "internal", "done")
            await silent(peer)

        client = await self.serving(failing)
        stream = client.stream("A.b", {"from": 1}, resume=after)
        await self.assert_fails_after(stream, [1], farcall.InternalError, "done")

        async def cut(peer: Peer) -> None:
            header, _ = await peer.next()
            peer.send(Header("item", header.seq), 1)

        client = await self.serving(cut)
        stream = client.stream("A.b", {"from": 1}, resume=lambda last: {"from": {last}})
        self.assertEqual(await stream.__anext__(), 1)
        await self.assert_fails(stream.__anext__(), farcall.InvalidArgument, "not_sent")

    async def test_a_closed_client_ends_a_stream(self):
        client = await self.serving(silent)
        stream = client.stream("A.b", {"from": 1}, resume=after)
        await stream.__aenter__()
        client.abort()
        await self.assert_fails_after(stream, [], farcall.Unavailable, "maybe")


if __name__ == "__main__":
    unittest.main()
