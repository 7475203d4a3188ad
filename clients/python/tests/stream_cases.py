"""The behaviour of streams against the demo's server, for every scheme and codec."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from typing import Any

from support import until

import farcall


class StreamCases:
    """The tests of streams, which the classes of `test_demo` run over their schemes."""

    def bytes_of(self, item: Any) -> bytes:
        return base64.b64decode(item) if self.codec == "json" else item

    async def test_a_stream_has_all_items_and_the_final_value(self):
        async with self.client() as client:
            stream = client.stream("Feed.count", {"from": 3, "to": 20_003})
            self.assertEqual([item async for item in stream], list(range(3, 20_003)))
            self.assertEqual(await stream.finish(), 20_000)
            self.assertEqual([item async for item in client.stream("Feed.count", [0, 0])], [])

    async def test_an_upload_arrives_whole(self):
        async with self.client() as client:
            async with client.upload("Feed.sum") as upload:
                for number in range(5000):
                    self.assertTrue(await upload.send(number))
                self.assertEqual(await upload.finish(), sum(range(5000)))
            self.assertEqual(await client.upload("Feed.sum").finish(), 0)

    async def test_items_come_back_from_an_exchange(self):
        items = [os.urandom(size) for size in (0, 1, 60_000, 300_000, 1_000_000) * 4]

        async def send(both: farcall.Exchange[bytes, bytes, int]) -> None:
            for item in items:
                await both.send(item)
            both.end()

        async with self.client() as client, client.exchange("Feed.echo") as both:
            sending = asyncio.ensure_future(send(both))
            echoed = [self.bytes_of(item) async for item in both]
            self.assertTrue(echoed == items, "other bytes came back")
            self.assertEqual(await both.finish(), len(items))
            await sending

    async def test_many_streams_and_calls_share_a_connection(self):
        async def count(n: int) -> int:
            stream = client.stream("Feed.count", {"from": n, "to": n + 50})
            return sum([item async for item in stream])

        async def add(n: int) -> int:
            async with client.upload("Feed.sum") as upload:
                for _ in range(50):
                    await upload.send(n)
                return await upload.finish()

        async with self.client() as client:
            # More than the server runs at once, so that some wait.
            counted = asyncio.gather(*map(count, range(200)))
            added = asyncio.gather(*map(add, range(200)))
            self.assertEqual(await client.call("Arith.multiply", a=6, b=7), 42)
            self.assertEqual(await counted, [50 * n + 1225 for n in range(200)])
            self.assertEqual(await added, [50 * n for n in range(200)])
            self.assertEqual(client.in_flight, 0)

    async def test_a_reader_that_stands_still_delays_no_other(self):
        async with self.client() as client:
            async with client.stream("Feed.blobs", n=10_000, bytes=10_000) as still:
                await still.__anext__()
                fast = client.stream("Feed.blobs", n=500, bytes=10_000)
                sizes = [len(self.bytes_of(item)) async for item in fast]
                self.assertEqual(sizes, [10_000] * 500)
                self.assertEqual(await fast.finish(), 500)
            await until(lambda: client.in_flight == 0)

    async def test_a_method_that_fails_after_its_items(self):
        async with self.client() as client:
            stream = client.stream("Feed.fail_after", n=3)
            for expected in range(3):
                self.assertEqual(await stream.__anext__(), expected)
            error = await self.assert_fails(stream.__anext__(), farcall.ApplicationError, "done")
            self.assertEqual(error.details, {"after": 3})
            self.assertEqual(error.method, "Feed.fail_after")

    async def test_a_stream_that_is_left_ends_at_the_server(self):
        async with self.client() as client:
            async for item in client.stream("Feed.ticks", every_ms=1):
                if item == 3:
                    break
            await until(lambda: client.in_flight == 0)
            async with client.upload("Feed.hold") as upload:
                await upload.send(1)
            await until(lambda: client.in_flight == 0)
            stream = client.stream("Feed.blobs", n=1000, bytes=100_000)
            await stream.__anext__()
            # The server is told to stop, which its method notices.
            self.assertLess(await stream.finish(), 1000)

    async def test_a_method_that_answers_while_items_are_sent(self):
        async with self.client() as client, client.upload("Feed.first", n=3) as upload:
            while await upload.send("x" * 1000):
                await asyncio.sleep(0)
            self.assertEqual(await upload.finish(), 3)

    async def test_a_method_that_takes_nothing_is_given_up(self):
        async with self.client(stream_stall=0.2) as client:
            upload = client.upload("Feed.hold")
            with self.assertRaises(farcall.ResourceExhausted) as caught:
                while await upload.send("x" * 10_000):
                    pass
            self.assertEqual(caught.exception.execution, "maybe")
            await until(lambda: client.in_flight == 0)

    async def test_the_limits_of_a_stream_end_it(self):
        async with self.client() as client:
            for upload in (
                client.upload("Feed.hold", timeout=0.1),
                client.upload("Feed.hold", first_within=0.1),
            ):
                # The server may answer first, and a pause may come before the request is sent.
                executions = ("maybe", "refused", "not_sent")
                await self.assert_fails(upload.finish(), farcall.DeadlineExceeded, *executions)
            ticks = client.stream("Feed.ticks", every_ms=600_000, gap=0.1)
            self.assertEqual(await ticks.__anext__(), 0)
            await self.assert_fails(ticks.__anext__(), farcall.DeadlineExceeded, "maybe")
            await until(lambda: client.in_flight == 0)

    async def test_a_call_of_the_wrong_kind_is_refused(self):
        async with self.client() as client:
            for wrong in (
                client.call("Feed.count", {"from": 1, "to": 2}),
                client.stream("Arith.multiply", a=6, b=7).__anext__(),
            ):
                await self.assert_fails(wrong, farcall.InvalidArgument, "refused")
            services = {service["name"]: service for service in await client.services()}
            methods = {method["name"]: method for method in services["Feed"]["methods"]}
            self.assertTrue(methods["echo"]["streaming"])
            self.assertTrue(methods["echo"]["streams"]["in"] and methods["echo"]["streams"]["out"])

    async def test_a_server_that_stops_is_seen_by_its_streams(self):
        demo = self.demo(*self.options(), "--drain-timeout", "1s")
        self.address = self.open(demo)
        async with self.client() as client:
            ticks = client.stream("Feed.ticks", every_ms=1)
            self.assertEqual(await ticks.__anext__(), 0)
            self.assertFalse(ticks.draining)
            demo.process.send_signal(signal.SIGTERM)
            with self.assertRaises(farcall.Unavailable) as caught:
                async for _ in ticks:
                    pass
            self.assertTrue(ticks.draining)
            self.assertEqual(caught.exception.execution, "maybe")
            self.assertEqual(caught.exception.metadata.get("farcall-resume"), "1")

    async def test_a_stream_goes_on_at_the_successor_of_a_killed_server(self):
        demo = self.demo(*self.options())
        self.address = self.open(demo)
        client = await self.client()
        numbers = client.stream(
            "Feed.count",
            {"from": 0, "to": 20_000},
            resume=lambda last: {"from": last + 1, "to": 20_000},
        )
        got = [await numbers.__anext__() for _ in range(100)]
        demo.stop()
        self.demo(*self.options(self.address.split("@")[1]))
        async for number in numbers:
            got.append(number)
        # None is lost and none comes twice, also of those that were on their way.
        self.assertEqual(got, list(range(20_000)))
        await client.close()
