"""Tests of the end of a connection and of keep-alive, against a scripted server."""

from __future__ import annotations

import asyncio
import time
import unittest
from typing import cast
from unittest import mock

from support import SOON, AsyncCase, FakeServer, Peer, echoing, silent, until

import farcall
from farcall.codec import codec_named
from farcall.connection import Connection
from farcall.handshake import Terms
from farcall.stream import FrameStream
from farcall.wire import Header, WireError, frame


class CloseTest(AsyncCase):
    async def test_a_broken_connection_ends_its_calls_as_maybe(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next()
            await asyncio.wait_for(cut.wait(), SOON)

        cut = asyncio.Event()
        server = await FakeServer.start(self, script, echoing, max_in_flight=2)
        client = await self.connect(server.address)
        first = asyncio.ensure_future(client.call("A.b", n=1))
        second = asyncio.ensure_future(client.call("A.b", n=2))
        await until(lambda: client.in_flight == 2)
        waiting = asyncio.ensure_future(client.call("A.b", n=3))
        cut.set()
        await self.assert_fails(first, farcall.Unavailable, "maybe")
        await self.assert_fails(second, farcall.Unavailable, "maybe")
        # This call was not sent, so it uses another connection.
        self.assertEqual(await waiting, {"n": 3})
        self.assertEqual(server.connections, 2)

    async def test_protocol_error_closes_the_connection(self):
        for wrong in (
            (b'{"kind":"request","seq":1}', b""),
            (b'{"kind":"cancel","seq":1}', b""),
            (b'{"kind":"stream","seq":1}', b""),
            (b'{"kind":"response"}', b""),
            (b"{]", b""),
            (b"", b""),
        ):

            async def script(peer: Peer, wrong=wrong) -> None:
                await peer.next()
                peer.write(*wrong)
                self.assertTrue(await peer.ended(), "a goaway was sent")
                ended.set()

            ended = asyncio.Event()
            with self.subTest(wrong=wrong):
                server = await FakeServer.start(self, script)
                client = await self.connect(server.address)
                error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
                self.assertIn("broke the protocol", error.message)
                await asyncio.wait_for(ended.wait(), SOON)

    async def test_a_frame_over_the_limit_is_refused_from_its_length(self):
        header = frame(b'{"kind":"response","seq":1}')
        for data, limit in (
            (b"\xff\xff\xff\xff", 4 << 20),
            ((65_537).to_bytes(4, "big"), 4 << 20),
            (header + ((4 << 20) + 1).to_bytes(4, "big"), 4 << 20),
            (header + (1001).to_bytes(4, "big"), 1000),
            ((1001).to_bytes(4, "big"), 1000),
        ):

            async def script(peer: Peer, data=data, limit=limit) -> None:
                self.assertEqual(peer.option["max_frame_bytes"], limit)
                await peer.next()
                peer.stream.write(data)
                goaway, _ = await peer.next("goaway")
                self.assertEqual((goaway.seq, goaway.error.code), (1, "resource_exhausted"))
                self.assertTrue(await peer.ended())
                ended.set()

            ended = asyncio.Event()
            with self.subTest(data=data[-4:], limit=limit):
                server = await FakeServer.start(self, script)
                client = await self.connect(server.address, max_frame_bytes=limit)
                await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
                await asyncio.wait_for(ended.wait(), SOON)
                await server.stop()

    async def test_goaway_takes_calls_to_another_connection_and_loses_none(self):
        async def leaving(peer: Peer) -> None:
            await peer.next()
            await peer.next()
            peer.send(Header("goaway", 1, error=WireError("unavailable", "draining", "maybe")))
            await asyncio.wait_for(taken.wait(), SOON)
            peer.answer(1, "from the first")

        async def next_one(peer: Peer) -> None:
            header, value = await peer.next()
            self.assertEqual(header.metadata, {"k": "v", "farcall-attempt": "2"})
            peer.answer(header.seq, value)
            taken.set()
            await echoing(peer)

        taken = asyncio.Event()
        server = await FakeServer.start(self, leaving, next_one)
        client = await self.connect(server.address)
        below = asyncio.ensure_future(client.call("A.b", n=1))
        await until(lambda: client.in_flight == 1)
        above = asyncio.ensure_future(client.call("A.b", n=2, metadata={"k": "v"}))
        self.assertEqual(await above, {"n": 2})
        self.assertEqual(await client.call("A.b", n=3), {"n": 3})
        self.assertEqual(await below, "from the first")
        self.assertEqual(server.connections, 2)

    async def test_a_call_up_to_the_border_without_an_answer_is_maybe(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            peer.send(Header("goaway", 1, error=WireError("unavailable", "draining", "maybe")))

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
        self.assertIn("draining", error.message)
        self.assertEqual(server.connections, 1)

    async def test_server_that_says_goaway_at_once_is_left_alone(self):
        async def script(peer: Peer) -> None:
            request, _ = await peer.next()
            # It keeps the call, and with it the connection.
            peer.send(Header("goaway", request.seq))
            said.set()
            await peer.ended()

        said = asyncio.Event()
        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        kept = [asyncio.ensure_future(client.call("A.b"))]
        await asyncio.wait_for(said.wait(), SOON)
        said.clear()
        kept.append(asyncio.ensure_future(client.call("A.b")))
        await asyncio.wait_for(said.wait(), SOON)
        for _ in range(5):
            error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
            self.assertIn("dialed again in", error.message)
        self.assertEqual(server.connections, 2)
        for call in kept:
            call.cancel()

    async def test_client_closes_if_the_server_does_not_after_a_goaway(self):
        async def script(peer: Peer) -> None:
            peer.send(Header("goaway", 0))
            await peer.ended()
            ended.set()

        ended = asyncio.Event()
        server = await FakeServer.start(self, script)
        with mock.patch("farcall.connection.CLOSE_AFTER_GOAWAY", 0.01):
            await self.connect(server.address)
            await asyncio.wait_for(ended.wait(), SOON)

    async def test_close_lets_the_calls_be_answered(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next()
            goaway, _ = await peer.next("goaway")
            self.assertEqual(goaway, Header("goaway", 2))
            peer.answer(1, "one")
            peer.answer(2, "two")

        server = await FakeServer.start(self, script, max_in_flight=2)
        async with self.connect(server.address) as client:
            calls = [asyncio.ensure_future(client.call("A.b")) for _ in range(3)]
            await until(lambda: client.in_flight == 2)
        self.assertEqual(await calls[0], "one")
        self.assertEqual(await calls[1], "two")
        await self.assert_fails(calls[2], farcall.Unavailable, "not_sent")
        await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
        await client.close()
        await server.stop()

    async def test_close_fails_unanswered_calls_after_its_timeout(self):
        server = await FakeServer.start(self, silent)
        client = await self.connect(server.address)
        call = asyncio.ensure_future(client.call("A.b"))
        await until(lambda: client.in_flight == 1)
        await client.close(timeout=0.01)
        await self.assert_fails(call, farcall.Unavailable, "maybe")

    async def test_abort_ends_everything_at_once(self):
        server = await FakeServer.start(self, silent)
        client = await self.connect(server.address)
        call = asyncio.ensure_future(client.call("A.b"))
        await until(lambda: client.in_flight == 1)
        client.abort()
        await self.assert_fails(call, farcall.Unavailable, "maybe")
        await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")


class KeepAliveTest(AsyncCase):
    async def test_a_ping_is_answered(self):
        async def script(peer: Peer) -> None:
            for number in (0, 5, 5, 2**53 - 1, *range(6)):  # ten are allowed
                peer.send(Header("ping", number))
                pong, _ = await peer.next("pong")
                self.assertEqual(pong, Header("pong", number))
            answered.set()
            await echoing(peer)

        answered = asyncio.Event()
        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        await asyncio.wait_for(answered.wait(), SOON)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_too_many_pings_close_the_connection(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            for number in range(11):
                peer.send(Header("ping", number))
            await silent(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
        self.assertIn("too many pings", error.message)

    async def test_silence_is_pinged_and_ends_the_connection(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            for _ in range(2):
                ping, _ = await peer.next("ping")
                peer.send(Header("pong", ping.seq))
            await silent(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address, ping_after=0.05, ping_timeout=0.2)
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
        self.assertIn("silent", error.message)

    async def test_a_request_may_take_longer_to_be_sent_than_a_server_may_be_silent(self):
        class SlowStream:
            """A stream whose operating system takes a byte each time it is looked."""

            last_received = 0.0
            written = 1000
            looks = 0
            pings = 0

            @property
            def taken(self) -> int:
                self.looks += 1
                return min(990 + self.looks, 1000)

            def write(self, data: bytes) -> None:
                self.pings += 1
                self.written += len(data)

            async def read_message(self, limit: int) -> tuple[bytes, bytes]:
                await asyncio.Event().wait()
                raise AssertionError("it waits for ever")

            def close(self) -> None:
                pass

            abort = close

        stream, ended = SlowStream(), asyncio.Event()
        Connection(
            cast(FrameStream, stream),
            codec_named("json"),
            Terms(1000, 1, None),
            max_frame_bytes=1000,
            max_waiting=1,
            ping_after=0.0,
            ping_timeout=0.001,
            stream_window=1,
            max_stream_window=1,
            max_stream_growth=1,
            on_shut=lambda _: None,
            on_end=lambda _: ended.set(),
        )
        await ended.wait()
        # Nine bytes are taken after the ping, and then none.
        self.assertEqual((stream.looks, stream.pings), (11, 1))

    async def test_pings_are_rate_limited(self):
        async def script(peer: Peer) -> None:
            while True:
                ping, _ = await peer.next("ping")
                peer.send(Header("pong", ping.seq))

        server = await FakeServer.start(self, script)
        with mock.patch("farcall.connection.PING_WINDOW", 0.3):
            client = await self.connect(server.address)
            began = time.monotonic()
            for _ in range(11):
                self.assertGreaterEqual(await client.ping(), 0)
        # Five in each window, so two windows pass between the first and the last.
        self.assertGreaterEqual(time.monotonic() - began, 0.6)

    async def test_a_ping_without_a_pong(self):
        server = await FakeServer.start(self, silent)
        client = await self.connect(server.address)
        await self.assert_fails(client.ping(timeout=0.01), farcall.DeadlineExceeded, "maybe")


if __name__ == "__main__":
    unittest.main()
