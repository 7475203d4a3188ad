"""Tests against the demo's server: every scheme and both codecs.

Each test class starts its own servers, and ends them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from stream_cases import StreamCases
from support import PACKAGE, AsyncCase, Certificates, Demo, until

import farcall

FOREVER_MS = 600_000

# Nothing else uses its ports: that of a server stays free until its successor listens there.
OWN_HOST = f"127.97.{os.getpid() // 254 % 256}.{1 + os.getpid() % 254}"


class DemoCase(AsyncCase):
    """A directory with certificates, and servers that end with the class."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = Path(directory.name)
        cls.files = Certificates(cls.directory)
        cls.files.sign("server", "DNS:localhost", "IP:127.0.0.1", f"IP:{OWN_HOST}")
        cls.files.sign("client", "DNS:client.example")
        cls.tls = farcall.Tls(ca_file=cls.files["ca.pem"])
        cls.certified = farcall.Tls(
            ca_file=cls.files["ca.pem"],
            cert_file=cls.files["client.pem"],
            key_file=cls.files["client.key"],
        )

    @classmethod
    def demo(cls, *options: str) -> Demo:
        demo = Demo(*options)
        cls.addClassCleanup(demo.stop)
        return demo

    @classmethod
    def with_tls(cls) -> tuple[str, ...]:
        return ("--tls-cert", cls.files["server.pem"], "--tls-key", cls.files["server.key"])


class EverySchemeCases(StreamCases):
    """The tests of every scheme.  The classes below choose the scheme."""

    scheme: str
    codec = "json"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.address = cls.open(cls.demo(*cls.options()))

    @classmethod
    def options(cls, place: str = f"{OWN_HOST}:0") -> tuple[str, ...]:
        if cls.scheme in ("http", "https"):
            return (f"--{cls.scheme}", place, *cls.with_tls())
        place = str(cls.directory / "socket") if cls.scheme == "unix" else place
        return ("--listen", f"{cls.scheme}@{place}", *cls.with_tls())

    @classmethod
    def open(cls, demo: Demo) -> str:
        return demo.addresses[0].rstrip("/")

    def client(self, **settings: Any) -> farcall.Client:
        return self.connect(self.address, codec=self.codec, tls=self.tls, **settings)

    async def test_calls_are_answered_each_with_its_own(self):
        async with self.client() as client:
            calls = (client.call("Arith.multiply", a=n, b=7) for n in range(500))
            self.assertEqual(await asyncio.gather(*calls), [n * 7 for n in range(500)])
            self.assertEqual(client.in_flight, 0)

    async def test_errors_of_a_method_and_of_a_call(self):
        async with self.client() as client:
            arith = client.service("Arith")
            divide = arith.divide(a=6, b=0)
            error = await self.assert_fails(divide, farcall.ApplicationError, "done")
            self.assertEqual(error.details, "division_by_zero")
            await self.assert_fails(arith.divide(a="six", b=1), farcall.InvalidArgument, "refused")
            error = await self.assert_fails(arith.subtract(), farcall.Unimplemented, "refused")
            self.assertEqual(error.method, "Arith.subtract")
            panic = client.call("Echo.panic", message="on purpose")
            await self.assert_fails(panic, farcall.InternalError, "done")
            self.assertEqual(await arith.multiply(a=6, b=7), 42)

    async def test_a_cancelled_call_frees_its_place(self):
        async with self.client() as client:
            for _ in range(3):
                task = asyncio.ensure_future(client.call("Echo.sleep", ms=FOREVER_MS))
                await until(lambda: client.in_flight == 1)
                task.cancel()
                await asyncio.wait({task})
                self.assertTrue(task.cancelled())
                await until(lambda: client.in_flight == 0)

    async def test_a_deadline_ends_a_call_on_both_sides(self):
        async with self.client() as client:
            # The server's answer may come before the client's own time-out, and a pause of
            # this process before the request is sent: each of them ends the call in time.
            call = client.call("Echo.sleep", ms=FOREVER_MS, timeout=0.1)
            executions = ("maybe", "refused", "not_sent")
            await self.assert_fails(call, farcall.DeadlineExceeded, *executions)
            await until(lambda: client.in_flight == 0)
            self.assertEqual(await client.call("Echo.sleep", ms=1, timeout=60), 1)

    async def test_large_bodies_go_both_ways(self):
        async with self.client() as client:
            data = os.urandom(1_500_000)
            calls = (client.call("Echo.echo", data=data) for _ in range(4))
            for echoed in await asyncio.gather(*calls):
                if self.codec == "json":
                    echoed = base64.b64decode(echoed)
                self.assertTrue(echoed == data, "other bytes came back")
            call = client.call("Echo.echo", data=bytes(5 << 20))
            await self.assert_fails(call, farcall.ResourceExhausted, "not_sent")

    async def test_an_answer_over_the_own_limit_fails_its_call_alone(self):
        async with self.client(max_frame_bytes=10_000) as client:
            call = client.call("Echo.echo", data=bytes(20_000))
            await self.assert_fails(call, farcall.ResourceExhausted, "done")
            self.assertEqual(await client.call("Arith.multiply", [6, 7]), 42)

    async def test_reserved_methods(self):
        async with self.client() as client:
            services = {service["name"]: service for service in await client.services()}
            multiply = services["Arith"]["methods"][0]
            self.assertEqual(multiply["params"][0], {"name": "a", "type": "i64"})
            self.assertEqual(await client.health(), {"status": "serving"})
            self.assertEqual(await client.health("Arith"), {"status": "serving"})
            await client.call("Arith.multiply", a=6, b=7)
            stats = {method["name"]: method for method in await client.stats()}
            self.assertGreaterEqual(stats["Arith.multiply"]["calls"], 1)
            self.assertGreater(await client.ping(), 0)
            await client.notify("Arith.multiply", a=6, b=7)
            self.assertEqual(client.terms.max_in_flight, 1024)

    async def test_a_server_that_is_killed_ends_its_calls_and_its_successor_is_found(self):
        demo = self.demo(*self.options())
        self.address = self.open(demo)
        client = await self.client()
        call = asyncio.ensure_future(client.call("Echo.sleep", ms=FOREVER_MS))
        await until(lambda: client.in_flight == 1)
        demo.stop()
        await self.assert_fails(call, farcall.Unavailable, "maybe")
        self.demo(*self.options(self.address.split("@")[1]))
        self.assertEqual(await client.call("Arith.multiply", a=6, b=7), 42)
        await client.close()

    async def test_a_server_that_stops_finishes_what_it_has_begun(self):
        demo = self.demo(*self.options())
        self.address = self.open(demo)
        client = await self.client()
        call = asyncio.ensure_future(client.call("Echo.sleep", ms=300))
        await until(lambda: client.in_flight == 1)
        await client.ping()  # the request before it has been read
        demo.process.send_signal(signal.SIGTERM)
        self.assertEqual(await call, 300)
        await until(lambda: demo.process.poll() is not None)
        self.assertEqual(demo.process.returncode, 0)


class TcpTest(EverySchemeCases, DemoCase):
    scheme = "tcp"


class TcpMsgpackTest(EverySchemeCases, DemoCase):
    scheme, codec = "tcp", "msgpack"


class UnixTest(EverySchemeCases, DemoCase):
    scheme = "unix"

    @classmethod
    def options(cls, place: str = "") -> tuple[str, ...]:
        # A separate socket for each server, unless a successor reuses one.
        cls.count = getattr(cls, "count", 0) + 1
        return ("--listen", f"unix@{place or cls.directory / f'socket{cls.count}'}")


class TlsTest(EverySchemeCases, DemoCase):
    scheme, codec = "tls", "msgpack"


class HttpTest(EverySchemeCases, DemoCase):
    scheme = "http"


class HttpsTest(EverySchemeCases, DemoCase):
    scheme, codec = "https", "msgpack"


class AuthenticationTest(DemoCase):
    async def test_a_token_lets_in(self):
        tokens = self.directory / "tokens"
        tokens.write_text("web q8mXe01rHsZ9\n")
        demo = self.demo("--listen", "tcp@127.0.0.1:0", "--token-file", str(tokens))
        async with self.connect(demo.addresses[0], token="q8mXe01rHsZ9") as client:
            self.assertEqual(await client.call("Arith.multiply", a=6, b=7), 42)
        for token in (None, "wrong"):
            client = self.connect(demo.addresses[0], token=token)
            error = await self.assert_fails(client.connect(), farcall.Unauthenticated, "not_sent")
            self.assertIn("token", error.message)

    async def test_a_certificate_lets_in(self):
        authority = ("--tls-client-ca", self.files["ca.pem"])
        demo = self.demo("--listen", "tls@127.0.0.1:0", *self.with_tls(), *authority)
        async with self.connect(demo.addresses[0], tls=self.certified) as client:
            self.assertEqual(await client.call("Arith.multiply", a=6, b=7), 42)
        for tls in (self.tls, None):
            client = self.connect(demo.addresses[0], tls=tls)
            await self.assert_fails(client.connect(), farcall.Unavailable, "not_sent")

    async def test_a_server_of_another_kind_is_named(self):
        options = ("--listen", "tls@127.0.0.1:0", "--listen", "tcp@127.0.0.1:0")
        demo = self.demo(*options, "--http", "127.0.0.1:0", *self.with_tls())
        tls, tcp, http = (address.split("@")[1].rstrip("/") for address in demo.addresses)
        for address, said in (
            (f"tcp@{tls}", "it speaks TLS"),
            (f"tcp@{http}", "it speaks HTTP"),
            (f"tls@{tcp}", ""),
            (f"http@{tcp}", ""),
        ):
            client = self.connect(address, tls=self.tls, connect_timeout=20)
            error = await self.assert_fails(client.connect(), farcall.Unavailable, "not_sent")
            self.assertIn(said, str(error))


class CommandLineTest(DemoCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tokens = cls.directory / "tokens"
        tokens.write_text("web q8mXe01rHsZ9\n")
        options = ("--listen", "tls@127.0.0.1:0", *cls.with_tls(), "--token-file", str(tokens))
        cls.address = cls.demo(*options).addresses[0]

    async def run_it(self, *arguments: str, token: str = "q8mXe01rHsZ9") -> tuple[int, str, str]:
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src"), "FARCALL_TOKEN": token}
        command = [sys.executable, "-m", "farcall", "--ca-file", self.files["ca.pem"], *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    async def test_result_is_printed(self):
        done = await self.run_it(self.address, "Arith.multiply", '{"a":6,"b":7}')
        self.assertEqual(done, (0, "42\n", ""))
        code, printed, _ = await self.run_it(self.address)
        self.assertEqual(code, 0)
        self.assertIn('"name": "multiply"', printed)

    async def test_failure_is_printed_as_a_sentence(self):
        for arguments, code, said in (
            ((self.address, "Arith.divide", "[6,0]"), 1, "division by zero (application, done)"),
            ((self.address, "Arith.divide", "[6,0]"), 1, '"division_by_zero"'),
            # The client or the server ends it, with the same code.
            ((self.address, "Echo.sleep", "[600000]", "--timeout", "0.1"), 1, "deadline_exceeded"),
            ((self.address, "Echo.sleep", "[9999"), 2, "the arguments are not JSON"),
            (("gopher@x:1", "A.b"), 2, "'gopher' is none of"),
            ((), 2, "address"),
        ):
            done = await self.run_it(*arguments)
            self.assertEqual((done[0], done[1]), (code, ""), done)
            self.assertIn(said, done[2])
            self.assertNotIn("Traceback", done[2])
        code, _, said = await self.run_it(self.address, token="wrong")
        self.assertEqual(code, 1)
        self.assertIn("unauthenticated, not_sent", said)


if __name__ == "__main__":
    unittest.main()
