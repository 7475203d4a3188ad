"""Tests of the messages of streams, and of what is promised for them, against a scripted server."""

from __future__ import annotations

import asyncio
import gc
import unittest
from typing import Any

from scripted import StreamCase, answering_cancels, until_end
from support import SOON, FakeServer, Peer, echoing, silent, until
from test_vectors import frames_of

import farcall
from farcall.wire import Header, WireError


class WireTest(StreamCase):
    async def test_messages_are_those_of_the_vectors(self):
        vectors = frames_of("18.8 Vectors")
        request, items, response = vectors[:2], vectors[2:6], vectors[12:]
        credit, end, stop = vectors[6:8], vectors[8:10], vectors[10:12]

        async def counting(peer: Peer) -> None:
            self.assertEqual(peer.option["features"], ["streams"])
            self.assertEqual(peer.option["stream_window"], 262_144)
            await self.assert_frames(peer, *request)
            peer.write(*items, *response)
            await silent(peer)

        client = await self.serving(counting, codec="msgpack")
        stream = client.stream("Feed.count", {"from": 3, "to": 5})
        self.assertEqual(await self.items_of(stream), [3, 4])
        self.assertEqual(await stream.finish(), 2)

        async def summing(peer: Peer) -> None:
            await peer.next()
            await self.assert_frames(peer, items[0], items[1], *end)
            peer.write(*response)
            await silent(peer)

        client = await self.serving(summing, codec="msgpack")
        async with client.upload("Feed.sum") as upload:
            self.assertTrue(await upload.send(3))
            self.assertEqual(await upload.finish(), 2)

        async def stopped(peer: Peer) -> None:
            await peer.next()
            for _ in range(2):
                peer.send(Header("item", 1), bytes(65_536 - 64 - 3))
            # Only then there is credit for another one.
            await peer.next("credit")
            peer.send(Header("item", 1), bytes(65_536 - 64 - 3))
            await peer.next("credit")
            await self.assert_frames(peer, *credit, *stop)
            peer.write(*response)
            await silent(peer)

        # Credit is the whole window, beyond what was taken.
        client = await self.serving(stopped, codec="msgpack", stream_window=131_072)
        stream = client.stream("Feed.blobs")
        for _ in range(3):
            await stream.__anext__()
        self.assertEqual(await stream.finish(), 2)

    async def test_a_server_without_streams_is_told_by_an_error(self):
        for terms in ({}, {"features": []}, {"features": ["others"], "max_streams": 5}):
            server = await FakeServer.start(self, echoing, **terms)
            client = await self.connect(server.address)
            for opening in (
                client.stream("A.b").__anext__(),
                client.upload("A.b").send(1),
                client.exchange("A.b").finish(),
            ):
                error = await self.assert_fails(opening, farcall.Unimplemented, "not_sent")
                self.assertIn("not agreed on streams", error.message)
                self.assertEqual(error.method, "A.b")
            self.assertEqual(client.terms.max_streams, None)
            self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_streams_beyond_max_streams_wait_and_calls_do_not(self):
        async def script(peer: Peer) -> None:
            first, _ = await peer.next()
            plain, _ = await peer.next()
            self.assertEqual((first.flags, plain.flags), (8, 0))
            peer.answer(plain.seq, "plain")
            await asyncio.wait_for(go_on.wait(), SOON)
            peer.answer(first.seq, "first")
            second, _ = await peer.next()
            peer.answer(second.seq, "second")
            await silent(peer)

        go_on = asyncio.Event()
        client = await self.serving(script, terms={"max_streams": 1}, max_waiting=1)
        first = asyncio.ensure_future(self.result_of(client.stream("A.b")))
        await until(lambda: client.in_flight == 1)
        second = asyncio.ensure_future(self.result_of(client.stream("A.b")))
        await asyncio.sleep(0)
        self.assertEqual(await client.call("A.b"), "plain")
        late = client.stream("A.b", timeout=0.01)
        kinds = (farcall.ResourceExhausted, farcall.DeadlineExceeded)
        await self.assert_fails(late.__anext__(), kinds, "not_sent")
        go_on.set()
        self.assertEqual([await first, await second], ["first", "second"])
        client = await self.serving(silent, terms={"max_streams": 0})
        await self.assert_fails(
            client.stream("A.b").__anext__(), farcall.ResourceExhausted, "not_sent"
        )

    async def test_what_breaks_the_protocol_closes_the_connection(self):
        item, credit = b'{"kind":"item","seq":1}', b'{"kind":"credit","seq":1}'
        for wrong, said in (
            ((b'{"kind":"end","seq":1}', b""), "kind end"),
            ((item, b"1") * 2, "although 65 of 1 had been spent"),
            ((credit, b""), "a credit"),
            ((credit, b"null"), "a credit"),
            ((credit, b"-1"), "a credit"),
            ((credit, b'"1"'), "a credit"),
            ((b'{"kind":"credit","seq":77}', b"{"), "a credit"),  # whatever its call is
        ):

            async def script(peer: Peer, wrong=wrong) -> None:
                await peer.next()
                peer.write(*wrong)
                await silent(peer)

            with self.subTest(wrong=wrong):
                client = await self.serving(script, stream_window=1)
                stream = client.stream("A.b")
                opened = await stream.__aenter__()
                await until(lambda opened=opened: opened._call.outcome is not None)
                error = await self.assert_fails(stream.finish(), farcall.Unavailable, "maybe")
                self.assertIn("broke the protocol", error.message)
                self.assertIn(said, error.message)
                self.assertEqual(client.in_flight, 0)

    async def test_messages_of_streams_without_agreement_close_the_connection(self):
        for kind in ("item", "end", "credit", "stop"):

            async def script(peer: Peer, kind=kind) -> None:
                await peer.next()
                peer.send(Header(kind, 1), 1)
                await silent(peer)

            server = await FakeServer.start(self, script)
            client = await self.connect(server.address)
            error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
            self.assertIn(f"kind {kind}", error.message)

    async def test_messages_for_calls_that_are_not_in_flight_are_ignored(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            for kind in ("item", "credit", "stop"):
                peer.send(Header(kind, 77), 1)
            peer.send(Header("item", 1), "one")
            peer.answer(1, "done")
            for kind in ("item", "credit", "stop", "response"):
                peer.send(Header(kind, 1), 1)
            await echoing(peer)

        client = await self.serving(script)
        stream = client.stream("A.b")
        self.assertEqual(await self.items_of(stream), ["one"])
        self.assertEqual(await stream.finish(), "done")
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_metadata_and_arguments_go_with_the_request(self):
        async def script(peer: Peer) -> None:
            heard.append(await peer.next())
            peer.answer(1, None)
            await silent(peer)

        heard: list[Any] = []
        client = await self.serving(script)
        metadata = {"k": "v"}
        stream = client.stream("A.b", [1, 2], metadata=metadata, idempotent=True, timeout=SOON)
        self.assertEqual(await self.items_of(stream), [])
        ((header, value),) = heard
        self.assertTrue(0 < header.timeout_ms <= SOON * 1000)
        self.assertEqual((header.metadata, header.flags, value), (metadata, 12, [1, 2]))
        for wrong in ({"gap": "1"}, {"first_within": float("nan")}, {"timeout": "x"}):
            with self.assertRaises((TypeError, ValueError)):
                client.stream("A.b", **wrong)
        with self.assertRaisesRegex(ValueError, "metadata of 1025 pairs: the limit is 1024"):
            client.stream("A.b", metadata={str(n): "" for n in range(1025)})
        with self.assertRaisesRegex(ValueError, "metadata of 1025 pairs: the limit is 1024"):
            await client.call("A.b", metadata={str(n): "" for n in range(1025)})


class PromiseTest(StreamCase):
    """The promises that are made for streams."""

    async def test_a_stream_that_has_credit_sends_whatever_others_do(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next()
            peer.send(Header("credit", 2), 1 << 40)
            count = 0
            while count < 100:
                data, _ = await peer.stream.read_message()
                header = peer.codec.decode_header(data)
                count += (header.kind, header.seq) == ("item", 2)
            peer.answer(2, count)
            peer.answer(1, "held")
            await silent(peer)

        client = await self.serving(script, terms={"stream_window": 1})
        held, free = client.upload("A.b"), client.upload("A.b")
        await held.send(0)
        waiting = asyncio.ensure_future(held.send(1))
        async with free:
            sent = [await free.send("x" * 10_000) for _ in range(99)]
            self.assertEqual(sent, [True] * 99)
            self.assertFalse(waiting.done())
            await free.send("last")
            self.assertEqual(await free.finish(), 100)
        self.assertFalse(await waiting)
        self.assertEqual(await held.finish(), "held")

    async def test_an_item_of_any_size_passes_any_window(self):
        async def script(peer: Peer) -> None:
            request, _ = await peer.next()
            peer.send(Header("item", request.seq), large)
            credit, limit = await peer.next("credit")
            cost = len(peer.codec.encode(large)) + 64
            self.assertEqual((credit, limit), (Header("credit", request.seq), cost + 1))
            peer.send(Header("item", request.seq, flags=16), 2)
            first, value = await peer.next("item")
            self.assertEqual((first.flags, value), (0, large))
            peer.send(Header("credit", request.seq), cost)  # all of it is spent
            peer.send(Header("credit", request.seq), cost + 1)
            # The credit for the last item overtakes it, if that was taken in time.
            data, body = await peer.stream.read_message()
            if peer.codec.decode_header(data).kind == "credit":
                data, body = await peer.stream.read_message()
            second = peer.codec.decode_header(data)
            self.assertEqual((second, peer.codec.decode(body)), (Header("item", 1, flags=16), 2))
            await until_end(peer)
            peer.answer(request.seq, "done")
            await silent(peer)

        large = "x" * 1_000_000
        for codec in ("json", "msgpack"):
            client = await self.serving(
                script,
                codec=codec,
                terms={"stream_window": 1},
                stream_window=1,
                max_stream_window=1,  # it does not grow
            )
            async with client.exchange("A.b") as both:
                self.assertEqual(await both.__anext__(), large)
                await both.send(large)
                await both.send(2)
                self.assertEqual(await both.__anext__(), 2)
                both.end()
                self.assertEqual(await self.items_of(both), [])
                self.assertEqual(await both.finish(), "done")

    async def test_a_receiver_grants_nothing_while_its_application_takes_nothing(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            for n in range(10):
                peer.send(Header("item", 1), n)
            peer.send(Header("ping", 1))
            await peer.next("pong")  # all items have arrived, and no credit was sent
            all_there.set()
            limits = [(await peer.next("credit"))[1] for _ in range(2)]
            self.assertEqual(limits, [650 + 5 * 65, 650 + 10 * 65])
            peer.answer(1, "done")
            await silent(peer)

        all_there = asyncio.Event()
        client = await self.serving(script, stream_window=650)
        async with client.stream("A.b") as stream:
            await asyncio.wait_for(all_there.wait(), SOON)
            self.assertEqual(await self.items_of(stream), list(range(10)))

    async def test_calls_are_answered_while_a_stream_stands_still(self):
        async def script(peer: Peer) -> None:
            stream, _ = await peer.next()
            for _ in range(5):
                peer.send(Header("item", stream.seq), "x" * 60_000)
            await echoing(peer)

        client = await self.serving(script)
        async with client.stream("A.b") as stream:
            self.assertEqual(await client.call("A.b", x=1), {"x": 1})
            self.assertEqual(len(await stream.__anext__()), 60_000)

    async def test_a_cut_stream_is_never_complete(self):
        async def cut(peer: Peer) -> None:
            request, _ = await peer.next()
            peer.send(Header("item", request.seq), 1)
            peer.send(Header("item", request.seq), 2)

        async def drained_and_cut(peer: Peer) -> None:
            await cut(peer)
            peer.send(Header("goaway", 1, error=WireError("unavailable", "draining", "maybe")))

        for script in (cut, drained_and_cut):
            client = await self.serving(script)
            stream = client.stream("A.b")
            await self.assert_fails_after(stream, [1, 2], farcall.Unavailable, "maybe")
            self.assertEqual(client.in_flight, 0)

        async def reads_and_cuts(peer: Peer) -> None:
            await peer.next()
            await peer.next("item")

        client = await self.serving(reads_and_cuts)
        upload = client.upload("A.b")
        await upload.send(1)
        await self.assert_fails(upload.finish(), farcall.Unavailable, "maybe")

    async def test_an_error_after_an_item_is_maybe_unless_the_method_returned_it(self):
        async def script(peer: Peer) -> None:
            for code, execution in (("unavailable", "refused"), ("application", "done")):
                header, _ = await peer.next()
                peer.send(Header("item", header.seq), 1)
                peer.fail(header.seq, code, execution)
            header, _ = await peer.next()
            peer.fail(header.seq, "invalid_argument", "refused")
            await silent(peer)

        client = await self.serving(script)
        await self.assert_fails_after(client.stream("A.b"), [1], farcall.Unavailable, "maybe")
        error = await self.assert_fails_after(
            client.stream("A.b"), [1], farcall.ApplicationError, "done"
        )
        self.assertEqual(error.method, "A.b")
        await self.assert_fails_after(client.stream("A.b"), [], farcall.InvalidArgument, "refused")

    async def test_leaving_a_loop_or_dropping_a_stream_cancels(self):
        async def script(peer: Peer) -> None:
            for n in range(1, 7):
                request, _ = await peer.next()
                self.assertEqual(request.seq, n)
                peer.send(Header("item", n), "item")
                await peer.next("cancel")  # and no stop, and no end
                peer.send(Header("item", n), "ignored")
                peer.fail(n, "cancelled", "maybe")
            await silent(peer)

        client = await self.serving(script)
        async for _ in client.stream("A.b"):
            break
        await until(lambda: client.in_flight == 0)
        stream = client.stream("A.b")
        await stream.__anext__()
        del stream
        await until(lambda: client.in_flight == 0)
        async with client.stream("A.b") as stream:
            await stream.__anext__()
        await until(lambda: client.in_flight == 0)
        stream = client.stream("A.b")
        task = asyncio.ensure_future(self.items_of(stream))
        await until(lambda: client.in_flight == 1)
        task.cancel()
        await asyncio.wait({task})
        await stream.aclose()
        self.assertEqual(await self.items_of(stream), [])
        await self.assert_fails(stream.finish(), farcall.Cancelled, "maybe")
        await until(lambda: client.in_flight == 0)
        exchange = client.exchange("A.b")
        await exchange.__anext__()
        del exchange, task
        gc.collect()
        await until(lambda: client.in_flight == 0)
        with self.assertRaisesRegex(ValueError, "on purpose"):
            async with client.upload("A.b"):
                raise ValueError("on purpose")
        await until(lambda: client.in_flight == 0)

    async def test_a_broken_upload_is_never_complete(self):
        async def script(peer: Peer) -> None:
            for _ in range(3):
                header, _ = await peer.next()
                kinds = []
                while "cancel" not in kinds:
                    data, _ = await peer.stream.read_message()
                    kinds.append(peer.codec.decode_header(data).kind)
                self.assertNotIn("end", kinds)
                peer.fail(header.seq, "cancelled", "maybe")
            await silent(peer)

        async def broken(upload: Any) -> None:
            await upload.send(1)
            raise ValueError("on purpose")

        client = await self.serving(script)
        async with client.upload("A.b") as upload:
            await upload.send(1)
        await until(lambda: client.in_flight == 0)
        with self.assertRaises(ValueError):
            async with client.upload("A.b") as upload:
                await broken(upload)
        await until(lambda: client.in_flight == 0)
        with self.assertRaises(ValueError):
            await broken(client.upload("A.b"))
        gc.collect()
        await until(lambda: client.in_flight == 0)

    async def test_streams_that_are_let_go_at_any_moment_leave_nothing(self):
        client = await self.serving(answering_cancels, terms={"max_streams": 1})
        for turns in range(25):
            for kind in ("stream", "upload", "exchange"):

                async def use(kind=kind) -> None:
                    async with getattr(client, kind)("A.b") as stream:
                        if kind != "stream":
                            await stream.send(1)
                        await stream.finish()

                task = asyncio.ensure_future(use())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
                self.assertTrue(task.cancelled(), task)
        await until(lambda: client.in_flight == 0)
        self.assertEqual(self.server.connections, 1)

    async def test_a_peer_that_takes_nothing_is_noticed(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            await peer.next("item")
            await peer.next("cancel")
            cancelled.set()
            await silent(peer)

        cancelled = asyncio.Event()
        client = await self.serving(script, terms={"stream_window": 1}, stream_stall=0.05)
        upload = client.upload("A.b")
        await upload.send(1)
        error = await self.assert_fails(upload.send(2), farcall.ResourceExhausted, "maybe")
        self.assertIn("no credit within 0.05 s (stream_stall)", error.message)
        await self.assert_fails(upload.finish(), farcall.ResourceExhausted, "maybe")
        await asyncio.wait_for(cancelled.wait(), SOON)

    async def test_a_window_of_0_lets_nothing_be_sent_before_a_credit(self):
        async def script(peer: Peer) -> None:
            request, _ = await peer.next()
            await peer.next("cancel")  # no item before it
            peer.fail(request.seq, "cancelled", "maybe")
            await silent(peer)

        for window in (0, 0.0):  # JSON has one kind of number
            client = await self.serving(script, terms={"stream_window": window}, stream_stall=0.05)
            upload = client.upload("A.b")
            await self.assert_fails(upload.send(1), farcall.ResourceExhausted, "maybe")
            await self.assert_fails(upload.finish(), farcall.ResourceExhausted, "maybe")

    async def test_a_server_that_drains_is_noticed(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            peer.send(Header("item", 1), 1)
            await asyncio.wait_for(go_on.wait(), SOON)
            peer.send(Header("goaway", 1, error=WireError("unavailable", "draining", "maybe")))
            await asyncio.wait_for(seen.wait(), SOON)
            peer.send(Header("item", 1), 2)
            error = WireError("unavailable", "it stopped", "maybe")
            peer.send(Header("response", 1, error=error, metadata={"farcall-resume": "1"}))

        go_on, seen = asyncio.Event(), asyncio.Event()
        client = await self.serving(script)
        stream = client.stream("A.b")
        self.assertEqual(await stream.__anext__(), 1)
        self.assertFalse(stream.draining)
        go_on.set()
        self.assertTrue(await stream.wait_draining())
        self.assertTrue(stream.draining)
        seen.set()
        error = await self.assert_fails_after(stream, [2], farcall.Unavailable, "maybe")
        self.assertEqual(error.metadata, {"farcall-resume": "1"})


if __name__ == "__main__":
    unittest.main()
