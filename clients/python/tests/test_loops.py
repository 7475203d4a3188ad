"""One client in several event loops, and one-way calls that are the last that a program does."""

from __future__ import annotations

import asyncio
import gc
import math
import unittest
import warnings

from support import SOON, AsyncCase, FakeServer, Peer, echoing, until

import farcall
from farcall.settings import checked_timeout


def run_and_close(work):
    """Runs it in an event loop that is closed without cancelling the tasks in it."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of tasks that are destroyed
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class LoopTest(AsyncCase):
    async def test_client_connects_again_in_the_next_event_loop(self):
        server = await FakeServer.start(self, echoing)
        client = farcall.connect(server.address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for n, run in enumerate([asyncio.run, run_and_close] * 3):
                # In a thread, because the server is in this loop.
                work = client.call("A.b", x=n, timeout=SOON)
                self.assertEqual(await asyncio.to_thread(run, work), {"x": n})
            await asyncio.to_thread(asyncio.run, client.close())
            gc.collect()
        self.assertEqual(server.connections, 6)

    async def test_use_in_two_running_event_loops_is_an_error(self):
        server = await FakeServer.start(self, echoing)
        client = self.connect(server.address)
        await client.call("A.b", x=1)

        async def use() -> str:
            with self.assertRaises(RuntimeError) as caught:
                await client.call("A.b", x=1)
            return str(caught.exception)

        message = await asyncio.to_thread(asyncio.run, use())
        self.assertIn("used in another event loop, which is running", message)
        self.assertEqual(await client.call("A.b", x=2), {"x": 2})

    async def test_aborted_client_of_a_closed_event_loop(self):
        server = await FakeServer.start(self, echoing)
        client = farcall.connect(server.address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            await asyncio.to_thread(run_and_close, client.call("A.b", x=1))
            client.abort()
            gc.collect()


class OneWayTest(AsyncCase):
    async def test_one_way_calls_arrive_though_the_event_loop_ends(self):
        heard = []

        async def script(peer: Peer) -> None:
            while True:
                data, _ = await peer.stream.read_message()
                heard.append(peer.codec.decode_header(data))

        server = await FakeServer.start(self, script)
        client = farcall.connect(server.address)

        async def log() -> None:
            for n in range(1000):
                await client.notify("Log.line", line="x" * n)

        await asyncio.to_thread(asyncio.run, log())
        await until(lambda: len([h for h in heard if h.kind == "request"]) == 1000)

    async def test_one_way_call_waits_until_it_is_written(self):
        go_on = asyncio.Event()

        async def script(peer: Peer) -> None:
            await go_on.wait()
            while True:
                await peer.stream.read_message(2**26)

        server = await FakeServer.start(self, script, max_frame_bytes=2**26)
        client = self.connect(server.address)
        await client.notify("Log.line", line="connected")
        large = "x" * 2**25  # more than the kernel buffers
        sending = asyncio.ensure_future(client.notify("Log.line", line=large))
        flushing = asyncio.ensure_future(client.flush())
        await asyncio.sleep(0.05)
        self.assertFalse(sending.done())
        error = await self.assert_fails(
            client.notify("Log.line", line="behind", timeout=0.01),
            farcall.DeadlineExceeded,
            "maybe",
            "not_sent",
        )
        self.assertIn("not within 0.01 s", str(error))
        go_on.set()
        await sending
        await flushing


class ExtremeTest(AsyncCase):
    async def test_every_timeout_is_taken_or_refused(self):
        for given, taken in [
            (10**400, None),
            (math.inf, None),
            (None, None),
            (1e300, 1e300),
            (0, 0.0),
            (-(10**400), -math.inf),
        ]:
            self.assertEqual(checked_timeout("timeout", given), taken)

    async def test_extreme_timeouts(self):
        server = await FakeServer.start(self, echoing)
        for limit in (1e300, 1e18, 10**400, 5e-324):
            for name in ("timeout", "connect_timeout", "handle_timeout", "ping_after", "ping_timeout"):
                try:
                    client = self.connect(server.address, **{name: limit})
                    await client.call("A.b", x=1)
                except (farcall.FarcallError, ValueError) as error:
                    self.assertTrue(str(error))
        client = self.connect(server.address)
        for limit in (1e300, 10**400, math.inf):
            self.assertEqual(await client.call("A.b", x=1, timeout=limit), {"x": 1})
        for limit in (0, -1, -math.inf, -(10**400), 5e-324):
            await self.assert_fails(
                client.call("A.b", x=1, timeout=limit), farcall.DeadlineExceeded, "not_sent"
            )
        with self.assertRaises(ValueError):
            await client.ping(math.nan)
        with self.assertRaises(ValueError):
            await client.close(math.nan)
        await client.close(1e300)


if __name__ == "__main__":
    unittest.main()
