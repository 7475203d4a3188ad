"""Tests of the ends, limits and repetitions of streams, against a scripted server."""

from __future__ import annotations

import asyncio
import unittest
import unittest.mock
from typing import Any

from scripted import StreamCase, answering_cancels
from support import SOON, Peer, silent, until

import farcall
from farcall.wire import Header, WireError


class EndTest(StreamCase):
    async def test_a_response_while_items_are_sent_is_the_outcome(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next("item")
            peer.answer(1, "enough")
            await peer.next()
            await peer.next("item")
            peer.fail(2, "application", "done")
            await silent(peer)

        client = await self.serving(script, terms={"stream_window": 1})
        upload = client.upload("A.b")
        sent = 0
        while await upload.send(sent):
            sent += 1
        self.assertEqual(sent, 1)
        self.assertEqual(await upload.finish(), "enough")
        upload = client.upload("A.b")
        await upload.send(0)
        await self.assert_fails(upload.send(1), farcall.ApplicationError, "done")
        await self.assert_fails(upload.finish(), farcall.ApplicationError, "done")

    async def test_a_server_that_takes_no_more_items_stops_the_sending(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next("item")
            peer.send(Header("stop", 1))
            peer.send(Header("ping", 1))
            await peer.next("pong")
            stopped.set()
            ping, _ = await peer.next("ping")  # no item and no end before it
            peer.send(Header("pong", ping.seq))
            peer.answer(1, "done")
            await silent(peer)

        stopped = asyncio.Event()
        client = await self.serving(script)
        upload = client.upload("A.b")
        self.assertTrue(await upload.send(1))
        await asyncio.wait_for(stopped.wait(), SOON)
        self.assertFalse(await upload.send(2))
        finish = asyncio.ensure_future(upload.finish())
        await client.ping(timeout=SOON)
        self.assertEqual(await finish, "done")

    async def test_a_server_that_sends_items_to_an_upload_is_stopped_once(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            for _ in range(3):
                peer.send(Header("item", 1), 1)
            await peer.next("stop")
            await peer.next("end")
            peer.answer(1, "done")
            await silent(peer)

        client = await self.serving(script)
        async with client.upload("A.b") as upload:
            await until(lambda: upload._call.has_items)
            self.assertEqual(await upload.finish(), "done")

    async def test_stop_ends_the_items_and_not_the_call(self):
        async def script(peer: Peer) -> None:
            for _ in range(2):
                header, _ = await peer.next()
                peer.send(Header("item", header.seq), 1)
                await peer.next("stop")
                peer.send(Header("item", header.seq), 2)  # was on its way
                peer.answer(header.seq, "done")
            await silent(peer)

        client = await self.serving(script)
        stream = client.stream("A.b")
        async for _ in stream:
            stream.stop()
        self.assertEqual(await stream.finish(), "done")
        stream = client.stream("A.b")
        await stream.__anext__()
        self.assertEqual(await stream.finish(), "done")

    async def test_items_go_both_ways_at_once(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            spent = consumed = 0
            while True:
                data, body = await peer.stream.read_message()
                header = peer.codec.decode_header(data)
                if header.kind == "item":
                    self.assertLess(spent - consumed, 1000)
                    spent += len(body) + 64
                    consumed = spent
                    peer.send(Header("credit", 1), consumed + 1000)
                    peer.send(Header("item", 1), peer.codec.decode(body))
                elif header.kind == "end":
                    peer.answer(1, "done")
                else:
                    self.assertEqual(header.kind, "credit")

        async def send(both: farcall.Exchange[str, str, str]) -> None:
            for n in range(500):
                await both.send("x" * n)
            both.end()

        for codec in ("json", "msgpack"):
            client = await self.serving(script, codec=codec, terms={"stream_window": 1000})
            async with client.exchange("A.b") as both:
                sending = asyncio.ensure_future(send(both))
                self.assertEqual([len(item) async for item in both], list(range(500)))
                await sending
                self.assertEqual(await both.finish(), "done")
                with self.assertRaises(RuntimeError):
                    await both.send(1)

    async def test_items_of_several_tasks_stay_whole_and_a_cancelled_one_is_not_sent(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            self.assertEqual((await peer.next("item"))[1], 0)
            await asyncio.wait_for(go_on.wait(), SOON)
            peer.send(Header("credit", 1), 1 << 30)
            values = [(await peer.next("item"))[1] for _ in range(2)]
            self.assertEqual(values, [1, 3])
            await peer.next("end")
            peer.answer(1, "done")
            await silent(peer)

        go_on = asyncio.Event()
        client = await self.serving(script, terms={"stream_window": 1})
        upload = client.upload("A.b")
        await upload.send(0)
        one, two, three = (asyncio.ensure_future(upload.send(n)) for n in (1, 2, 3))
        await asyncio.sleep(0)
        two.cancel()
        await asyncio.wait({two})
        go_on.set()
        self.assertEqual(await asyncio.gather(one, three), [True, True])
        self.assertEqual(await upload.finish(), "done")

    async def test_an_item_that_cannot_be_sent_fails_alone(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            self.assertEqual((await peer.next("item"))[1], "small")
            await peer.next("end")
            peer.answer(1, "done")
            await silent(peer)

        client = await self.serving(script, terms={"max_frame_bytes": 1000})
        async with client.upload("A.b") as upload:
            large, unknown = upload.send("x" * 1000), upload.send(object())
            error = await self.assert_fails(large, farcall.ResourceExhausted, "maybe")
            self.assertIn("an item of 1002 bytes", error.message)
            await self.assert_fails(unknown, farcall.InvalidArgument, "maybe")
            await upload.send("small")
            self.assertEqual(await upload.finish(), "done")

    async def test_an_item_that_cannot_be_read_ends_its_call(self):
        for flags, body, said in ((0, b"{]", "not a JSON value"), (1, b"1", "compressed")):

            async def script(peer: Peer, flags=flags, body=body) -> None:
                await peer.next()
                header = Header("item", 1, flags=flags)
                peer.write(peer.codec.encode_header(header), body)
                await answering_cancels(peer)

            client = await self.serving(script)
            stream = client.stream("A.b")
            error = await self.assert_fails_after(stream, [], farcall.InternalError, "maybe")
            self.assertIn(said, error.message)
            await until(lambda client=client: client.in_flight == 0)

    async def test_closing_the_client_ends_its_streams(self):
        client = await self.serving(silent)
        stream = client.stream("A.b")
        waiting = asyncio.ensure_future(stream.__anext__())
        await until(lambda: client.in_flight == 1)
        await client.close(timeout=0.01)
        await self.assert_fails(waiting, farcall.Unavailable, "maybe")
        await self.assert_fails(client.stream("A.b").__anext__(), farcall.Unavailable, "not_sent")

    async def test_a_stream_that_another_task_closes_is_not_complete(self):
        client = await self.serving(answering_cancels)
        for stream in (client.stream("A.b"), client.exchange("A.b")):
            reading = asyncio.ensure_future(stream.__anext__())
            await until(lambda: client.in_flight == 1)
            await stream.aclose()
            await self.assert_fails(reading, farcall.Cancelled, "maybe")
            await until(lambda: client.in_flight == 0)
        upload = client.upload("A.b")
        finishing = asyncio.ensure_future(upload.finish())
        await until(lambda: client.in_flight == 1)
        await upload.aclose()
        await self.assert_fails(finishing, farcall.Cancelled, "maybe")
        never = client.stream("A.b")
        await never.aclose()
        await self.assert_fails(never.finish(), farcall.Cancelled, "not_sent")

    async def test_a_stream_belongs_to_its_event_loop(self):
        client = await self.serving(silent)
        stream = client.stream("A.b")
        await stream.__aenter__()

        async def use() -> None:
            with self.assertRaisesRegex(RuntimeError, "belongs to the event loop"):
                await stream.__anext__()

        await asyncio.to_thread(asyncio.run, use())


class TimeTest(StreamCase):
    async def expire(self, kind: str, items: int, **limits: Any) -> str:
        """Returns the message of a call that ends by a limit after some items."""

        async def script(peer: Peer) -> None:
            header, _ = await peer.next()
            for n in range(items):
                peer.send(Header("item", header.seq), n)
            await answering_cancels(peer)

        settings = {"timeout": limits.pop("default")} if "default" in limits else {}
        client = await self.serving(script, **settings)
        stream = getattr(client, kind)("A.b", **limits)
        waiting = stream.finish() if kind == "upload" else stream.__anext__()
        error = await self.assert_fails(waiting, farcall.DeadlineExceeded, "maybe", "not_sent")
        self.assertEqual(error.method, "A.b")
        await until(lambda: client.in_flight == 0)
        return error.message

    async def test_a_limit_of_the_whole_call_ends_it(self):
        self.assertIn("within 0.05 s", await self.expire("stream", 0, timeout=0.05))
        self.assertIn("within 0.05 s", await self.expire("upload", 0, timeout=0.05))

    async def test_a_limit_for_the_first_item_ends_a_call_without_one(self):
        for kind in ("stream", "upload", "exchange"):
            said = await self.expire(kind, 0, first_within=0.05)
            self.assertEqual(said, "no item and no response within 0.05 s")

    async def test_the_timeout_of_the_client_is_for_the_first_item_alone(self):
        said = await self.expire("stream", 0, default=0.05)
        self.assertEqual(said, "no item and no response within 0.05 s")

        async def script(peer: Peer) -> None:
            header, _ = await peer.next()
            self.assertEqual(header.timeout_ms, 0)
            peer.send(Header("item", header.seq), 1)
            await answering_cancels(peer)

        client = await self.serving(script, timeout=SOON)
        async with client.stream("A.b") as stream:
            timer = stream._call._first_timer
            self.assertFalse(timer.cancelled())
            self.assertEqual(await stream.__anext__(), 1)
            self.assertTrue(timer.cancelled())
            self.assertIsNone(stream._call._timer)

    async def test_a_gap_between_items_ends_a_call(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            peer.send(Header("item", 1), 1)
            peer.send(Header("item", 1), 2)
            await answering_cancels(peer)

        client = await self.serving(script)
        stream = client.stream("A.b", gap=0.05)
        # However long the caller pauses, the items that are there come first.
        self.assertEqual(await stream.__anext__(), 1)
        error = await self.assert_fails_after(stream, [2], farcall.DeadlineExceeded, "maybe")
        self.assertIn("no item after the one before (gap) within 0.05 s", error.message)

    async def test_a_limit_counts_while_a_place_is_waited_for(self):
        client = await self.serving(silent, terms={"max_streams": 1})
        async with client.stream("A.b"):
            late = client.stream("A.b", first_within=0.01)
            await self.assert_fails(late.__anext__(), farcall.DeadlineExceeded, "not_sent")
            late = client.stream("A.b", timeout=0.01)
            await self.assert_fails(late.__anext__(), farcall.DeadlineExceeded, "not_sent")


class AgainTest(StreamCase):
    async def test_a_refused_stream_is_made_again_with_the_items_that_were_sent(self):
        async def leaving(peer: Peer) -> None:
            await peer.next()
            for n in range(3):
                self.assertEqual((await peer.next("item"))[1], n)
            peer.send(Header("goaway", 0, error=WireError("unavailable", "draining", "maybe")))
            await silent(peer)

        async def staying(peer: Peer) -> None:
            header, _ = await peer.next()
            self.assertEqual(header.metadata, {"farcall-attempt": "2"})
            self.assertEqual(header.flags, 8)
            limit, values = 1, []
            while True:
                data, body = await peer.stream.read_message()
                if peer.codec.decode_header(data).kind == "end":
                    break
                values.append(peer.codec.decode(body))
                limit += len(body) + 64
                peer.send(Header("credit", header.seq), limit)
            peer.send(Header("item", header.seq), "item")
            peer.answer(header.seq, values)
            await silent(peer)

        # The next server may grant less than the one before.
        client = await self.serving(leaving, staying, terms={"stream_window": 300})
        both = client.exchange("A.b")
        for n in range(3):
            await both.send(n)
        both.end()
        self.assertEqual(await self.items_of(both), ["item"])
        self.assertEqual(await both.finish(), [0, 1, 2])
        self.assertEqual(self.server.connections, 2)

    async def test_a_stream_that_sent_too_much_is_not_made_again(self):
        async def leaving(peer: Peer) -> None:
            await peer.next()
            await peer.next("item")
            await peer.next("item")
            peer.send(Header("goaway", 0))
            await silent(peer)

        client = await self.serving(leaving)
        upload = client.upload("A.b")
        await upload.send("x" * 60_000)
        await upload.send("x" * 6_000)
        await self.assert_fails(upload.finish(), farcall.Unavailable, "refused")
        self.assertEqual(self.server.connections, 1)


if __name__ == "__main__":
    unittest.main()
