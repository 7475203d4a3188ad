"""Tests of calls on a connection, against a scripted server."""

from __future__ import annotations

import asyncio
import unittest
from types import MappingProxyType

from support import SOON, AsyncCase, FakeServer, Peer, echoing, silent, until

import farcall
from farcall.wire import CODES, Header, WireError

ARGS = {"a": 6, "b": 7}


async def cancelling(peer: Peer) -> None:
    """Answers cancelled requests, and those without ``wait``."""
    while True:
        data, body = await peer.stream.read_message()
        header = peer.codec.decode_header(data)
        if header.kind == "cancel":
            peer.fail(header.seq, "cancelled", "maybe")
        elif not (value := peer.codec.decode(body)).get("wait"):
            peer.answer(header.seq, value)


class CallTest(AsyncCase):
    async def test_request_has_all_options(self):
        heard = []

        async def script(peer: Peer) -> None:
            for _ in range(5):
                header, value = await peer.next()
                heard.append((header, value))
                peer.answer(header.seq, 42)
            await silent(peer)

        for codec in ("json", "msgpack"):
            heard.clear()
            server = await FakeServer.start(self, script, codec=codec)
            client = await self.connect(server.address, codec=codec, timeout=60)
            metadata = {"traceparent": "00-1"}
            options = {"timeout": 45, "metadata": metadata, "idempotent": True}
            self.assertEqual(await client.call("Arith.multiply", a=6, b=7, **options), 42)
            args = MappingProxyType(ARGS)
            self.assertEqual(await client.call("Arith.multiply", args, timeout=None), 42)
            self.assertEqual(await client.call("Arith.multiply", (6, 7)), 42)
            self.assertEqual(await client.call("Echo.whoami", timeout=None), 42)
            # A method's parameters may have these names, as with `call`.
            self.assertEqual(await client.service("A").b(self=1, method=2, args=3), 42)
            (first, _), (second, _), (third, _), (fourth, _), _ = heard
            self.assertTrue(20_000 < first.timeout_ms <= 45_000, first)
            first.timeout_ms = 0
            expected = Header("request", 1, "Arith.multiply", metadata=metadata, flags=4)
            self.assertEqual(first, expected)
            self.assertEqual(second, Header("request", 2, "Arith.multiply"))
            self.assertTrue(45_000 < third.timeout_ms <= 60_000, third)
            self.assertEqual(fourth, Header("request", 4, "Echo.whoami"))
            values = [value for _, value in heard]
            named = {"self": 1, "method": 2, "args": 3}
            self.assertEqual(values, [ARGS, ARGS, [6, 7], None, named])

    async def test_answers_come_in_any_order(self):
        async def script(peer: Peer) -> None:
            requests = [await peer.next() for _ in range(10)]
            for header, value in reversed(requests):
                peer.answer(header.seq, value["n"] * 2)
            await silent(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        calls = [client.call("A.b", n=n) for n in range(10)]
        self.assertEqual(await asyncio.gather(*calls), [n * 2 for n in range(10)])
        self.assertEqual(client.in_flight, 0)

    async def test_timed_out_call_is_cancelled_on_the_server(self):
        async def script(peer: Peer) -> None:
            header, _ = await peer.next()
            cancel, _ = await peer.next("cancel")
            self.assertEqual(cancel, Header("cancel", header.seq))
            await asyncio.wait_for(seen.wait(), SOON)
            peer.fail(header.seq, "cancelled", "maybe")
            await echoing(peer)

        seen = asyncio.Event()
        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        self.stop_deadline_clock()  # the request is sent, however long that takes
        call = client.call("Echo.sleep", ms=600_000, timeout=0.05)
        error = await self.assert_fails(call, farcall.DeadlineExceeded, "maybe")
        self.assertEqual(error.method, "Echo.sleep")
        self.assertEqual(client.in_flight, 1)  # until it is answered
        seen.set()
        await until(lambda: client.in_flight == 0)
        await self.assert_fails(client.call("A.b", timeout=0), farcall.DeadlineExceeded, "not_sent")
        late = client.call("A.b", timeout=-1)
        await self.assert_fails(late, farcall.DeadlineExceeded, "not_sent")
        self.assertEqual(await client.call("A.b", x=1, timeout=float("inf")), {"x": 1})

    async def test_a_cancelled_task_cancels_its_call(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            cancel, _ = await peer.next("cancel")
            peer.fail(cancel.seq, "cancelled", "maybe")
            await echoing(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        task = asyncio.ensure_future(client.call("Echo.sleep", ms=600_000))
        await until(lambda: client.in_flight == 1)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await until(lambda: client.in_flight == 0)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_a_call_may_be_cancelled_at_any_moment(self):
        server = await FakeServer.start(self, cancelling, max_in_flight=1)
        client = await self.connect(server.address)
        for turns in range(30):
            one = asyncio.ensure_future(client.call("A.b", wait=True))
            two = asyncio.ensure_future(client.call("A.b", x=turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            one.cancel()
            two_as_well = turns % 2
            if two_as_well:
                two.cancel()
            await asyncio.wait({one, two})
            self.assertTrue(one.cancelled())
            if not two_as_well:
                self.assertEqual(two.result(), {"x": turns})
            self.assertEqual(await client.call("A.b", x=0), {"x": 0})
        self.assertEqual((client.in_flight, server.connections), (0, 1))

    async def test_each_code_has_its_class(self):
        async def script(peer: Peer) -> None:
            for code in CODES:
                header, _ = await peer.next()
                error = WireError(code, f"it is {code}", "refused")
                # Longer than a client waits for.
                metadata = {"farcall-retry-after-ms": "60000"}
                response = Header("response", header.seq, error=error, metadata=metadata)
                peer.send(response, {"why": code})
            await silent(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        for code in CODES:
            with self.subTest(code=code), self.assertRaises(farcall.FarcallError) as caught:
                await client.call("A.b")
            error = caught.exception
            self.assertEqual((error.code, type(error).code), (code, code))
            self.assertEqual((error.message, error.execution), (f"it is {code}", "refused"))
            self.assertEqual((error.details, error.retry_after), ({"why": code}, 60.0))
            self.assertEqual(str(error), f"A.b: it is {code} ({code}, refused)")

    async def test_invalid_answer_fails_only_its_call(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            peer.write(b'{"kind":"response","seq":1}', b"{]")
            await peer.next()
            peer.write(b'{"kind":"response","seq":2,"flags":1}', b"42")
            await peer.next()
            peer.write(b'{"kind":"response","seq":3,"error":{"code":"new"}}', b"{]")
            await echoing(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        error = await self.assert_fails(client.call("A.b"), farcall.InternalError, "done")
        self.assertIn("not a JSON value", error.message)
        error = await self.assert_fails(client.call("A.b"), farcall.InternalError, "done")
        self.assertIn("compressed", error.message)
        await self.assert_fails(client.call("A.b"), farcall.InternalError, "maybe")
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_meaningless_messages_are_ignored(self):
        async def script(peer: Peer) -> None:
            await peer.next()
            peer.answer(77, "nobody asked")
            peer.send(Header("pong", 5))
            peer.write(b'{"kind":"response","seq":1,"new":[1],"flags":240,"error":null}', b"42")
            peer.answer(1, "twice")
            await echoing(peer)

        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        self.assertEqual(await client.call("A.b"), 42)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_one_way_call_does_not_wait(self):
        heard = []

        async def script(peer: Peer) -> None:
            heard.append(await peer.next())
            await echoing(peer)

        server = await FakeServer.start(self, script, max_in_flight=1)
        client = await self.connect(server.address)
        await client.notify("A.b", x=1, idempotent=True)
        self.assertEqual(client.in_flight, 0)
        self.assertEqual(await client.call("A.b", x=2), {"x": 2})
        self.assertEqual(heard, [(Header("request", 1, "A.b", flags=6), {"x": 1})])

    async def test_calls_beyond_max_in_flight_wait(self):
        async def script(peer: Peer) -> None:
            first, _ = await peer.next()
            second, _ = await peer.next()
            await asyncio.wait_for(go_on.wait(), SOON)
            peer.answer(first.seq, 1)
            peer.answer(second.seq, 2)
            await echoing(peer)

        go_on = asyncio.Event()
        server = await FakeServer.start(self, script, max_in_flight=2)
        client = await self.connect(server.address, max_waiting=2)
        calls = [asyncio.ensure_future(client.call("A.b", n=n)) for n in range(4)]
        await until(lambda: client.in_flight == 2)
        await self.assert_fails(client.call("A.b"), farcall.ResourceExhausted, "not_sent")
        gone = calls.pop()
        gone.cancel()
        await asyncio.wait({gone})
        late = client.call("A.b", timeout=0.01)
        await self.assert_fails(late, farcall.DeadlineExceeded, "not_sent")
        go_on.set()
        self.assertEqual(await asyncio.gather(*calls), [1, 2, {"n": 2}])

    async def test_too_large_request_is_not_sent(self):
        server = await FakeServer.start(self, echoing, max_frame_bytes=1000, max_in_flight=1)
        client = await self.connect(server.address)
        for call in (
            client.call("A.b", x="y" * 1000),
            client.call("A.b", metadata={"k": "v" * 1000}),
        ):
            await self.assert_fails(call, farcall.ResourceExhausted, "not_sent")
        self.assertEqual(await client.call("A.b", x="y" * 900), {"x": "y" * 900})
        server = await FakeServer.start(self, echoing)
        client = await self.connect(server.address)
        call = client.call("A.b", metadata={"k": "v" * 65_536})
        await self.assert_fails(call, farcall.ResourceExhausted, "not_sent")
        self.assertEqual(client.terms, farcall.Terms(4 << 20, 1024, None))

    async def test_arguments_that_cannot_be_sent(self):
        client = self.connect("tcp@127.0.0.1:1")  # nobody is asked
        for codec, value in (("json", {1}), ("json", float("nan")), ("msgpack", 2**64)):
            client = self.connect("tcp@127.0.0.1:1", codec=codec)
            error = await self.assert_fails(
                client.call("A.b", x=value), farcall.InvalidArgument, "not_sent"
            )
            self.assertIn("cannot be encoded", str(error))
        loop: list = []
        loop.append(loop)
        await self.assert_fails(client.call("A.b", loop), farcall.InvalidArgument, "not_sent")

    async def test_invalid_calls_raise_type_and_value_errors(self):
        client = self.connect("tcp@127.0.0.1:1")
        for call, kind in (
            (lambda: client.call(""), TypeError),
            (lambda: client.call(b"A.b"), TypeError),
            (lambda: client.call("A.b", 5), TypeError),
            (lambda: client.call("A.b", "text"), TypeError),
            (lambda: client.call("A.b", {"a": 1}, b=2), TypeError),
            (lambda: client.call("A.b", timeout="1"), TypeError),
            (lambda: client.call("A.b", timeout=float("nan")), ValueError),
            (lambda: client.call("A.b", metadata="x"), TypeError),
            (lambda: client.call("A.b", metadata={"k": 1}), TypeError),
            (lambda: client.call("A.b", metadata={"K": "v"}), ValueError),
            (lambda: client.call("A.b", metadata={"": "v"}), ValueError),
        ):
            with self.assertRaises(kind):
                await call()
        with self.assertRaises(AttributeError):
            _ = client.service("A").__nothing__

    async def test_full_socket_holds_calls_back(self):
        async def script(peer: Peer) -> None:
            await asyncio.wait_for(read.wait(), SOON)
            await echoing(peer)

        read = asyncio.Event()
        server = await FakeServer.start(self, script)
        client = await self.connect(server.address)
        data = "x" * (1 << 20)
        calls = []
        while client.in_flight == len(calls):
            calls.append(asyncio.ensure_future(client.call("A.b", x=data)))
            self.assertLess(len(calls), 100, "the socket never becomes full")
            # The socket's buffers may still grow: they are full if a call waits for long.
            for _ in range(100):
                await asyncio.sleep(0.001)
                if client.in_flight == len(calls):
                    break
        late = client.call("A.b", x=data, timeout=0.02)
        await self.assert_fails(late, farcall.DeadlineExceeded, "not_sent")
        read.set()
        self.assertEqual(await asyncio.gather(*calls), [{"x": data}] * len(calls))


if __name__ == "__main__":
    unittest.main()
