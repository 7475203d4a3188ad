"""Tests of connecting and reconnecting: the handshake, TLS, the upgrade from HTTP."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from support import SOON, AsyncCase, Certificates, FakeServer, Peer, echoing, silent, until

import farcall
from farcall.backoff import Backoff
from farcall.wire import CODES, frame


async def raw_server(case: AsyncCase, *pieces: bytes, reads: int = 4) -> str:
    """Starts a server that reads a few bytes, sends these, and closes; returns host and port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(reads)
        for piece in pieces:
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)

    async def stop() -> None:
        server.close()

    case.addAsyncCleanup(stop)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


class HandshakeTest(AsyncCase):
    async def test_option_has_all_settings(self):
        terms = {"max_frame_bytes": 5000, "max_in_flight": 7, "handle_timeout_ms": 1500}
        server = await FakeServer.start(self, echoing, **terms)
        client = await self.connect(
            server.address,
            token="q8mXe01rHsZ9",
            connect_timeout=20,
            handle_timeout=2.5,
            max_frame_bytes=70_000,
        )
        expected = {
            "magic_number": 0xCAFEBABE,
            "version": 1,
            "codec_type": "application/json",
            "connect_timeout_ms": 20_000,
            "handle_timeout_ms": 2500,
            "max_frame_bytes": 70_000,
            "features": ["streams"],
            "stream_window": 262_144,
            "token": "q8mXe01rHsZ9",
        }
        self.assertEqual(server.options, [expected])
        self.assertEqual(client.terms, farcall.Terms(5000, 7, 1.5))

    async def test_limits_of_0_are_those_of_an_option_without_them(self):
        server = await FakeServer.start(self, echoing, max_frame_bytes=0, max_in_flight=0.0)
        client = await self.connect(server.address)
        self.assertEqual(client.terms, farcall.Terms(4 << 20, 1024, None))

    async def test_a_refusal_is_raised_by_its_code(self):
        for code in CODES:
            with self.subTest(code=code):
                refusal = b'{"error":{"code":"%s","message":"no \x1b"}}' % code.encode()
                place = await raw_server(self, frame(refusal.replace(b"\x1b", b"\\u001b")))
                with self.assertRaises(farcall.FarcallError) as caught:
                    await self.connect(place)
                error = caught.exception
                self.assertEqual((error.code, error.execution), (code, "not_sent"))
                self.assertIn("no \\x1b", str(error))

    async def test_invalid_option_is_reported(self):
        good = b'{"magic_number":3405691582,"version":1,"codec_type":"application/json"'
        for said, named in (
            (b"", "closed the connection"),
            (b"\0\0", "closed the connection"),
            (frame(b""), "not a JSON value"),
            (frame(b"[]"), "not an object"),
            (frame(b"{}"), "magic_number"),
            (frame(good.replace(b":1", b":2") + b"}"), "version"),
            (frame(good.replace(b"json", b"msgpack") + b"}"), "codec_type"),
            (frame(good + b',"max_in_flight":"many"}'), "max_in_flight"),
            (frame(good + b',"max_frame_bytes":-1}'), "max_frame_bytes"),
            (frame(good + b',"compression":"lz4"}'), "compression"),
            (frame(good + b',"features":"streams"}'), "features"),
            (frame(good + b',"features":["streams",1]}'), "features"),
            (frame(good + b',"once_store":1}'), "once_store"),
            (frame(good + b',"error":"no"}'), "internal"),
            (frame(b" " * 4097), "4097 bytes"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP"),
            (b"\x15\x03\x03\x00\x02\x02\x32", "it speaks TLS"),
        ):
            with self.subTest(said=said[:80]):
                place = await raw_server(self, said)
                kind = farcall.InternalError if named == "internal" else farcall.Unavailable
                error = await self.assert_fails(self.connect(place).connect(), kind, "not_sent")
                self.assertIn(named, str(error))
                self.assertIn(f"connecting to tcp@{place}", str(error))

    async def test_a_token_that_is_too_long(self):
        server = await FakeServer.start(self, echoing)
        client = self.connect(server.address, token="x" * 5000)
        error = await self.assert_fails(client.call("A.b"), farcall.InvalidArgument, "not_sent")
        self.assertIn("token is too long", str(error))
        self.assertNotIn("xxx", str(error))

    async def test_a_function_gives_a_token_for_each_connection(self):
        async def leaving(peer: Peer) -> None:
            await peer.next()

        tokens = iter(["first", "second"])

        async def token() -> str:
            return next(tokens)

        server = await FakeServer.start(self, leaving, echoing)
        client = await self.connect(server.address, token=token)
        await self.assert_fails(client.call("A.b"), farcall.Unavailable, "maybe")
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})
        self.assertEqual([option["token"] for option in server.options], ["first", "second"])

        def broken() -> str:
            raise OSError("the vault is closed")

        for function, said in ((broken, "the vault is closed"), (lambda: 5, "an int"[3:])):
            client = self.connect(server.address, token=function)
            error = await self.assert_fails(client.connect(), farcall.Unauthenticated, "not_sent")
            self.assertIn(said, str(error))

    async def test_connect_timeout_and_call_timeout(self):
        accepted = asyncio.Event()

        async def never(*_: object) -> bytes:
            accepted.set()
            await asyncio.sleep(600)
            return b""

        server = await FakeServer.start(self, silent, opening=never)
        client = self.connect(server.address, connect_timeout=0.05)
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
        self.assertIn("to the handshake there was no answer within 0.05 s", str(error))
        # The timeout of a call ends that call, and not the connecting.
        client = self.connect(server.address)
        accepted.clear()
        other = asyncio.ensure_future(client.call("A.b"))
        await accepted.wait()
        call = client.call("A.b", timeout=0.05)
        error = await self.assert_fails(call, farcall.DeadlineExceeded, "not_sent")
        self.assertIn(f"connecting to {server.address}: it accepted the connection", str(error))
        self.assertFalse(other.done())
        await client.close()
        await self.assert_fails(other, farcall.Unavailable, "not_sent")


class ReconnectTest(AsyncCase):
    async def test_client_dials_at_the_first_call(self):
        server = await FakeServer.start(self, echoing)
        client = self.connect(server.address)
        await asyncio.sleep(0)
        self.assertEqual((server.connections, client.terms), (0, None))
        calls = [client.call("A.b", n=n) for n in range(50)]
        self.assertEqual(len(await asyncio.gather(*calls)), 50)
        self.assertEqual(server.connections, 1)

    async def test_call_reconnects_after_a_lost_connection(self):
        server = await FakeServer.start(self, echoing)
        client = await self.connect(server.address)
        await server.stop()
        await until(lambda: client._current is None)
        await FakeServer.start(self, echoing, port=server.port)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_unreachable_server_is_dialed_after_a_pause(self):
        server = await FakeServer.start(self, echoing)
        await server.stop()
        now = 0.0
        client = self.connect(server.address)
        client._backoff = Backoff(lambda: now)
        first = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
        self.assertNotIn("dialed again", str(first))
        again = await FakeServer.start(self, echoing, port=server.port)
        for _ in range(3):
            error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
            self.assertRegex(str(error), r"dialed again in [01]\.\d s")
        self.assertEqual(again.connections, 0)
        now = 1.3
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_failed_dial_fails_all_waiting_calls(self):
        place = await raw_server(self, b"")
        client = self.connect(place, max_waiting=3)
        calls = [asyncio.ensure_future(client.call("A.b", n=n)) for n in range(5)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        kinds = [type(error) for error in done]
        self.assertEqual(kinds.count(farcall.Unavailable), 3)
        self.assertEqual(kinds.count(farcall.ResourceExhausted), 2)
        self.assertEqual(len({id(error) for error in done}), 5)
        self.assertEqual({error.execution for error in done}, {"not_sent"})

    async def test_cancelled_call_does_not_cancel_the_dial(self):
        async def slow(*_: object) -> bytes:
            await asyncio.wait_for(go_on.wait(), SOON)
            return b""

        go_on = asyncio.Event()
        server = await FakeServer.start(self, echoing, opening=slow)
        client = self.connect(server.address)
        one = asyncio.ensure_future(client.call("A.b", n=1))
        two = asyncio.ensure_future(client.call("A.b", n=2))
        await until(lambda: server.connections == 1)
        one.cancel()
        await asyncio.wait({one})
        go_on.set()
        self.assertEqual(await two, {"n": 2})
        self.assertEqual(server.connections, 1)

    async def test_close_at_any_moment_leaves_no_connection(self):
        server = await FakeServer.start(self, echoing)
        for turns in range(40):
            client = self.connect(server.address)
            call = asyncio.ensure_future(client.call("A.b", x=1))
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns % 2:
                client.abort()
            else:
                await client.close()
            (done,) = await asyncio.gather(call, return_exceptions=True)
            if done != {"x": 1}:
                self.assertIsInstance(done, farcall.Unavailable)
            self.assertEqual(client._connections, set())
        await until(lambda: not server._tasks)


class HttpTest(AsyncCase):
    async def test_upgrade_follows_the_specification(self):
        heads = []

        async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\nUPGRADE: Farcall\r\n\r\n")
            return b""

        server = await FakeServer.start(self, echoing, opening=upgrade)
        client = await self.connect(f"http@127.0.0.1:{server.port}")
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})
        lines = (
            "GET /_farcall_ HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Connection: Upgrade",
            "Upgrade: farcall",
            "\r\n",
        )
        self.assertEqual(heads, ["\r\n".join(lines).encode()])

    async def test_bytes_that_come_with_the_head_are_kept(self):
        good = b'{"magic_number":3405691582,"version":1,"codec_type":"application/json"}'
        head = b"HTTP/1.1 101 OK\r\nUpgrade: farcall\r\n\r\n"
        place = await raw_server(self, head + frame(good), reads=1000)
        client = await self.connect(f"http@{place}")
        self.assertEqual(client.terms, farcall.Terms(4 << 20, 1024, None))

    async def test_an_answer_that_is_no_upgrade_is_named(self):
        for said, named in (
            (b"HTTP/1.1 426 Upgrade Required\r\n\r\nhelp", "426 Upgrade Required"),
            (b"HTTP/1.1 502 \x1b\r\n\r\n", "502 \\x1b"),
            (b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n", "something else"),
            (b"HTTP/1.1 101 OK\r\n\r\n", "something else"),
            (b"HTTP/1.1\r\n\r\n", "does not speak HTTP"),
            (b"SSH-2.0\r\n\r\n", "does not speak HTTP"),
            (b"SSH-2.0\r\n", "does not speak HTTP"),
            (b"", "closed the connection"),
            (b"HTTP/1.1 101 OK\r\n" + b"X: y\r\n" * 4000 + b"\r\n", "16384 bytes"),
            (b"HTTP/1.1 101 OK\r\n" + b"X: y\r\n" * 40_000, "16384 bytes"),
        ):
            with self.subTest(said=said[:40]):
                place = await raw_server(self, said, reads=1000)
                connecting = self.connect(f"http@{place}").connect()
                error = await self.assert_fails(connecting, farcall.Unavailable, "not_sent")
                self.assertIn(named, str(error))


class TlsTest(AsyncCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.files = Certificates(Path(directory.name))
        cls.files.sign("server", "DNS:localhost", "IP:127.0.0.1")
        cls.files.sign("named", "DNS:shop.example")
        cls.files.sign("client", "DNS:client.example")
        cls.trusting = farcall.Tls(ca_file=cls.files["ca.pem"])

    def context(self, name: str = "server", alpn: tuple = ("farcall/1",)) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files[f"{name}.pem"], self.files[f"{name}.key"])
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    async def assert_refused(self, server: FakeServer, *, host: str = "127.0.0.1", tls=None) -> str:
        client = self.connect(f"tls@{host}:{server.port}", tls=tls)
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
        self.assertEqual(server.options, [], "an Option was sent to an untrusted server")
        return str(error)

    async def test_calls_inside_of_tls(self):
        server = await FakeServer.start(self, echoing, ssl=self.context())
        for host in ("127.0.0.1", "localhost"):
            client = await self.connect(f"tls@{host}:{server.port}", tls=self.trusting)
            data = "x" * 1_000_000
            self.assertEqual(await client.call("A.b", x=data), {"x": data})
            stream = client._current._stream
            await client.close()
            stream.abort()  # as the timer of `close` does when a second has passed

    async def test_an_authority_that_is_not_trusted(self):
        server = await FakeServer.start(self, echoing, ssl=self.context())
        self.assertIn("certificate is not accepted", await self.assert_refused(server))

    async def test_a_certificate_for_another_name(self):
        server = await FakeServer.start(self, echoing, ssl=self.context("named"))
        said = await self.assert_refused(server, tls=self.trusting)
        self.assertIn("127.0.0.1", said.split("not accepted")[1])
        await self.assert_refused(server, host="localhost", tls=self.trusting)
        named = farcall.Tls(ca_file=self.files["ca.pem"], server_name="shop.example")
        client = await self.connect(f"tls@127.0.0.1:{server.port}", tls=named)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_a_server_that_does_not_agree_on_farcall_inside(self):
        for alpn in ((), ("http/1.1",)):
            server = await FakeServer.start(self, echoing, ssl=self.context(alpn=alpn))
            self.assertIn("farcall/1", await self.assert_refused(server, tls=self.trusting))

    async def test_a_certificate_of_the_client(self):
        context = self.context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.files["ca.pem"])
        server = await FakeServer.start(self, echoing, ssl=context)
        await self.assert_refused(server, tls=self.trusting)
        tls = farcall.Tls(
            ca_file=self.files["ca.pem"],
            cert_file=self.files["client.pem"],
            key_file=self.files["client.key"],
        )
        client = await self.connect(f"tls@127.0.0.1:{server.port}", tls=tls)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_a_server_without_tls(self):
        place = await raw_server(self, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connecting = self.connect(f"tls@{place}", tls=self.trusting).connect()
        error = await self.assert_fails(connecting, farcall.Unavailable, "not_sent")
        self.assertIn("it does not speak TLS: try tcp@", str(error))

    async def test_an_upgrade_inside_of_tls(self):
        async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            self.assertEqual(agreed, "http/1.1")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 OK\r\nUpgrade: farcall\r\n\r\n")
            return b""

        context = self.context(alpn=("h2", "http/1.1"))
        server = await FakeServer.start(self, echoing, ssl=context, opening=upgrade)
        client = await self.connect(f"https@127.0.0.1:{server.port}", tls=self.trusting)
        self.assertEqual(await client.call("A.b", x=1), {"x": 1})

    async def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(self):
        command = ["openssl", "ec", "-in", self.files["client.key"], "-out", self.files["locked"]]
        options = ["-aes256", "-passout", "pass:secret"]
        subprocess.run([*command, *options], check=True, capture_output=True)
        tls = farcall.Tls(cert_file=self.files["client.pem"], key_file=self.files["locked"])
        with self.assertRaisesRegex(ValueError, "locked.*passphrase"):
            self.connect("tls@127.0.0.1:1", tls=tls)

    async def test_files_that_break_later_are_named_and_renewed_ones_used(self):
        server = await FakeServer.start(self, echoing, ssl=self.context())
        renewed = Path(self.files["renewed.pem"])
        renewed.write_text(Path(self.files["ca.pem"]).read_text())
        tls = farcall.Tls(ca_file=renewed)
        client = self.connect(f"tls@127.0.0.1:{server.port}", tls=tls)
        renewed.write_text("broken")
        error = await self.assert_fails(client.call("A.b"), farcall.Unavailable, "not_sent")
        self.assertIn("renewed.pem", str(error))
        renewed.write_text(Path(self.files["ca.pem"]).read_text())
        with mock.patch.object(client, "_backoff", Backoff()):
            self.assertEqual(await client.call("A.b", x=1), {"x": 1})


if __name__ == "__main__":
    unittest.main()
