"""What a client can observe of a farcall server, checked against the demo server.

The tests know the protocol from ``docs/PROTOCOL.md`` only; the section numbers in the
comments are those of that document.  Start the demo server, then:

    export PYTHONPATH=../../../clients/python/src
    FARCALL_TCP=tcp@127.0.0.1:7001 FARCALL_UNIX=unix@/tmp/farcall.sock \\
        python3 -m unittest -v test_demo_server

Most of them send bytes of their own.  Those that need a client use the package
``farcall``, which has tests of its own in ``clients/python``.

Each test runs in both codecs and over both transports.  A transport whose variable is
not set is skipped.  With ``FARCALL_SLOW=1`` the tests that have to sit through the
keep-alive times run too.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
import unittest
from typing import Any, NamedTuple, Optional

import msgpack
from raw_connection import (
    CODEC_NAMES,
    CODECS,
    JSON,
    MSGPACK,
    RawConnection,
    Refused,
    message,
)

import farcall
from farcall.handshake import shake_hands
from farcall.wire import MAGIC_NUMBER, EndOfStream, Header, WireError, frame

FOREVER_MS = 60_000  # longer than any test may take
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
NOTHING = object()


class Answer(NamedTuple):
    """A message of the server: its header decoded, its body as it came."""

    header: Header
    raw_header: bytes
    body: bytes


# ------------------------------------------------------------------ what all tests use


class ServerCase:
    """Connections and expectations.  The classes at the end give codec and address."""

    codec_name: str
    variable: str
    limit = 120.0  # only a failing test waits for it

    def __init__(self, name: str = "runTest"):
        super().__init__(name)
        test = getattr(self, name)

        @functools.wraps(test)
        async def limited():
            asyncio.get_running_loop().set_debug(False)  # it slows thousands of tasks
            await asyncio.wait_for(test(), self.limit)

        setattr(self, name, limited)

    def setUp(self):
        self.address = os.environ.get(self.variable, "")
        if not self.address:
            self.skipTest(f"{self.variable} is not set")
        self.codec = CODECS[self.codec_name]
        self.is_msgpack = self.codec_name == MSGPACK

    # ---- connections

    def cleanup(self, connection: Any) -> None:
        async def abort() -> None:
            connection.abort()

        self.addAsyncCleanup(abort)

    async def client(self, **settings: Any):
        codec = CODEC_NAMES[self.codec_name]
        client = await farcall.connect(self.address, codec=codec, **settings)
        self.cleanup(client)
        return client

    async def stream(self) -> RawConnection:
        raw = await RawConnection.open(self.address)
        self.cleanup(raw)
        return raw

    def option(self, **fields: Any) -> dict[str, Any]:
        return {
            "magic_number": MAGIC_NUMBER,
            "version": 1,
            "codec_type": self.codec_name,
            **fields,
        }

    def option_frame(self, **fields: Any) -> bytes:
        return frame(json.dumps(self.option(**fields)).encode())

    async def raw(self, **fields: Any) -> RawConnection:
        """A connection behind its handshake."""
        raw = await self.stream()
        raw.option = await raw.handshake(self.option(**fields))
        return raw

    # ---- messages to the server

    def body(self, value: Any) -> bytes:
        return b"" if value is NOTHING else self.codec.encode(value)

    def message(self, kind: Any, seq: int, body: bytes = b"", **fields: Any) -> bytes:
        return message(self.codec, Header(kind, seq, **fields), body)

    def request(self, seq: int, method: str, args: Any = NOTHING, **fields: Any) -> bytes:
        return self.message("request", seq, self.body(args), service_method=method, **fields)

    def multiply(self, seq: int, a: int = 6, b: int = 7, **fields: Any) -> bytes:
        return self.request(seq, "Arith.multiply", {"a": a, "b": b}, **fields)

    def sleep(self, seq: int, ms: int = FOREVER_MS, **fields: Any) -> bytes:
        return self.request(seq, "Echo.sleep", {"ms": ms}, **fields)

    def header(self, kind: Any, *rest: Any, **more: Any) -> bytes:
        """Header bytes with whatever fields, those that no `Header` can hold too."""
        if self.is_msgpack:
            return msgpack.packb([kind, *rest, *more.values()], use_bin_type=True)
        names = ("seq", "service_method", "timeout_ms", "error", "metadata", "flags")
        return json.dumps({"kind": kind, **dict(zip(names, rest)), **more}).encode()

    def kind(self, name: str) -> Any:
        numbers = {"request": 1, "response": 2, "cancel": 3, "ping": 4, "goaway": 6}
        return numbers[name] if self.is_msgpack else name

    # ---- messages from the server

    async def next(self, raw: RawConnection) -> Answer:
        raw_header, body = await raw.read_message()
        return Answer(self.codec.decode_header(raw_header), raw_header, body)

    async def rest(self, raw: RawConnection) -> list[Answer]:
        """All messages up to the end of the stream, which has to be a clean one."""
        answers = []
        while True:
            try:
                answers.append(await self.next(raw))
            except EndOfStream as end:
                self.assertTrue(end.clean, "the stream ended within a message")
                return answers

    async def ended(self, raw: RawConnection) -> None:
        self.assertEqual(await self.rest(raw), [])

    def expect_value(self, answer: Answer, seq: int, value: Any) -> None:
        self.assertEqual((answer.header.kind, answer.header.seq), ("response", seq))
        self.assertIsNone(answer.header.error)
        self.assertEqual(self.codec.decode(answer.body), value)

    def expect_error(
        self, answer: Answer, seq: int, code: str, *executions: str
    ) -> WireError:
        self.assertEqual((answer.header.kind, answer.header.seq), ("response", seq))
        error = answer.header.error
        self.assertIsNotNone(error, f"{code} expected, got {answer.body!r}")
        self.assertEqual(error.code, code, error)
        self.assertIn(error.execution, executions, error)
        return error

    async def expect_goaway(self, raw: RawConnection, code: str) -> list[Answer]:
        """One goaway, with the code, then the end.  Returns the other messages."""
        answers = await self.rest(raw)
        goaways = [answer for answer in answers if answer.header.kind == "goaway"]
        self.assertEqual(len(goaways), 1, answers)
        error = goaways[0].header.error
        self.assertIsNotNone(error)
        self.assertEqual(error.code, code, error)
        self.assertTrue(error.message, "a goaway says what was wrong")
        return [answer for answer in answers if answer.header.kind != "goaway"]

    async def works(self, raw: RawConnection, seq: int) -> None:
        """The connection still answers."""
        raw.write(self.multiply(seq))
        self.expect_value(await self.next(raw), seq, 42)

    async def expect_call_error(self, call, code: str, *executions: str) -> farcall.FarcallError:
        with self.assertRaises(farcall.FarcallError) as caught:
            await call
        error = caught.exception
        self.assertEqual(error.code, code, str(error))
        self.assertIn(error.execution, executions, str(error))
        return error

    async def until(self, condition) -> None:
        """Waits for something that another task brings about."""
        while not condition():
            await asyncio.sleep(0.005)


# ------------------------------------------------------------------------- the handshake


class HandshakeCases(ServerCase):
    async def test_accepted(self):
        raw = await self.raw()
        option = raw.option
        self.assertEqual(option["magic_number"], MAGIC_NUMBER)
        self.assertEqual(option["version"], 1)
        self.assertEqual(option["codec_type"], self.codec_name)
        for field in ("max_frame_bytes", "max_in_flight"):
            self.assertIsInstance(option[field], int, field)
            self.assertGreater(option[field], 0, field)
        for field in ("connect_timeout_ms", "token", "error", "codecs", "compression"):
            self.assertIsNone(option.get(field), field)
        self.assertEqual(option.get("features", []), [])
        await self.works(raw, 1)

    async def test_everything_optional_and_unknown(self):
        raw = await self.raw(
            connect_timeout_ms=10000,
            handle_timeout_ms=0,
            compression=["no-such-thing"],
            max_frame_bytes=65536,
            token="a-credential-that-nobody-asked-for",
            features=["no-such-feature"],
            colour={"of": ["the", "sky"]},
        )
        self.assertIsNone(raw.option.get("compression"))
        self.assertEqual(raw.option.get("features", []), [])
        await self.works(raw, 1)

    async def test_white_space_in_the_option(self):
        raw = await self.stream()
        raw.write_frame(b"\r\n\t" + json.dumps(self.option(), indent=3).encode() + b"\n ")
        await raw.read_option()
        await self.works(raw, 1)

    async def test_handle_timeout_is_the_smaller(self):
        own = (await self.raw()).option.get("handle_timeout_ms", 0)
        asked = (await self.raw(handle_timeout_ms=0)).option.get("handle_timeout_ms", 0)
        self.assertEqual(asked, own)
        for mine in (7, 3_600_000_000):
            expected = min(mine, own) if own else mine
            raw = await self.raw(handle_timeout_ms=mine)
            self.assertEqual(raw.option["handle_timeout_ms"], expected)

    async def test_handle_timeout_stops_a_handler(self):
        raw = await self.raw(handle_timeout_ms=100)
        raw.write(self.sleep(1))
        self.expect_error(await self.next(raw), 1, "deadline_exceeded", "maybe", "refused")
        raw.write(self.sleep(2, timeout_ms=FOREVER_MS))
        self.expect_error(await self.next(raw), 2, "deadline_exceeded", "maybe", "refused")
        await self.works(raw, 3)

    async def refused(self, raw: RawConnection) -> dict[str, Any]:
        """The refusal behind which the server closes."""
        with self.assertRaises(Refused) as caught:
            await raw.read_option()
        await self.ended(raw)
        return caught.exception.option

    async def refused_or_closed(self, raw: RawConnection) -> None:
        """For what section 3.4 leaves open: there may be a refusal, there is an end."""
        try:
            option = await raw.read_option()
        except Refused as refusal:
            self.assertIsInstance(refusal.option["error"].get("message"), str)
            await self.ended(raw)
        except (EndOfStream, ConnectionError):
            pass
        else:
            self.fail(f"accepted with {option}")

    async def test_wrong_magic_version_or_codec(self):
        for field, wrong, named in (
            ("magic_number", 0xBEEF, "magic"),
            ("version", 2, "version"),
            ("version", 0, "version"),
            ("codec_type", "application/xml", "application/xml"),
        ):
            with self.subTest(field=field, wrong=wrong):
                raw = await self.stream()
                raw.write(self.option_frame(**{field: wrong}))
                refusal = await self.refused(raw)
                self.assertEqual(refusal["error"]["code"], "invalid_argument")
                self.assertIn(named, refusal["error"]["message"].lower())
                self.assertEqual(refusal["version"], 1)
                self.assertLessEqual({MSGPACK, JSON}, set(refusal["codecs"]))

    async def test_not_an_option(self):
        incomplete = self.option()
        del incomplete["version"]
        for payload in (
            b"",
            b"{",
            b"[]",
            b"42",
            b"\xff\xfe",
            json.dumps(incomplete).encode(),
            json.dumps(self.option(codec_type=5)).encode(),
            json.dumps(self.option()).encode() + b"x",
            msgpack.packb(self.option()),
        ):
            with self.subTest(payload=payload):
                raw = await self.stream()
                raw.write_frame(payload)
                await self.refused_or_closed(raw)

    async def test_oversize_option(self):
        for length in (4097, 2**32 - 1):
            with self.subTest(length=length):
                raw = await self.stream()
                raw.write(length.to_bytes(4, "big"))
                await self.refused_or_closed(raw)

    async def test_option_of_just_4_kib(self):
        padding = 4096 - len(json.dumps(self.option(padding="")))
        raw = await self.stream()
        payload = json.dumps(self.option(padding="x" * padding)).encode()
        self.assertEqual(len(payload), 4096)
        raw.write_frame(payload)
        await raw.read_option()
        await self.works(raw, 1)

    async def test_another_protocol(self):
        raw = await self.stream()
        raw.write(b"\x7fELF\x02\x01\x01\x00 this is no farcall client\r\n\r\n")
        await self.refused_or_closed(raw)

    async def test_bytes_right_behind_the_option(self):
        raw = await self.stream()
        raw.write(self.option_frame() + self.multiply(1) + self.message("ping", 5))
        await raw.read_option()
        answers = [await self.next(raw), await self.next(raw)]
        answers.sort(key=lambda answer: answer.header.kind)
        self.assertEqual((answers[0].header.kind, answers[0].header.seq), ("pong", 5))
        self.expect_value(answers[1], 1, 42)

    async def test_library_connects(self):
        client = await self.client()
        self.assertEqual(await client.call("Arith.multiply", {"a": 6, "b": 7}), 42)
        self.assertGreaterEqual(await client.ping(), 0)
        await client.close()
        with self.assertRaises(farcall.Unavailable):
            await client.ping()

    async def test_library_reports_a_refusal(self):
        raw = await self.stream()
        with self.assertRaises(farcall.FarcallError) as caught:
            await shake_hands(raw.stream, self.option(version=77))
        error = caught.exception
        self.assertEqual((error.code, error.execution), ("invalid_argument", "not_sent"))


# ------------------------------------------------------------------- frames and headers


class FrameCases(ServerCase):
    def whole_conversation(self) -> bytes:
        return (
            self.option_frame()
            + self.multiply(1)
            + self.message("ping", 3)
            + self.multiply(2, 5, 5, metadata={"farcall-attempt": "1"}, timeout_ms=60000)
            + self.message("goaway", 2)
        )

    async def expect_whole_conversation(self, raw: RawConnection) -> None:
        await raw.read_option()
        answers = {(a.header.kind, a.header.seq): a for a in await self.rest(raw)}
        self.assertEqual(set(answers), {("response", 1), ("response", 2), ("pong", 3)})
        self.expect_value(answers["response", 1], 1, 42)
        self.expect_value(answers["response", 2], 2, 25)

    async def test_all_in_one_piece(self):
        raw = await self.stream()
        raw.write(self.whole_conversation())
        await self.expect_whole_conversation(raw)

    async def test_byte_by_byte(self):
        raw = await self.stream()
        for byte in self.whole_conversation():
            raw.write(bytes([byte]))
            await raw.flush()
            await asyncio.sleep(0.001)
        await self.expect_whole_conversation(raw)

    async def test_every_cut(self):
        data = self.whole_conversation()

        async def cut(at: int) -> None:
            raw = await RawConnection.open(self.address)
            try:
                raw.write(data[:at])
                await raw.flush()
                await asyncio.sleep(0.005)  # only makes it likely that the cut is seen
                raw.write(data[at:])
                await self.expect_whole_conversation(raw)
            finally:
                raw.abort()

        for start in range(1, len(data), 20):
            await asyncio.gather(*map(cut, range(start, min(start + 20, len(data)))))

    async def test_cut_off_in_a_frame(self):
        whole = self.multiply(1)
        for size in (1, 4, 9, len(whole) - 1):
            raw = await self.raw()
            raw.write(whole[:size])
            raw.write_eof()
            await self.rest(raw)  # a goaway or none: the connection ends
        await self.works(await self.raw(), 1)

    async def test_oversize_header(self):
        for length in (64 * 1024 + 1, 2**32 - 1):
            with self.subTest(length=length):
                raw = await self.raw()
                raw.write(length.to_bytes(4, "big"))
                await self.expect_goaway(raw, "resource_exhausted")

    async def test_oversize_body(self):
        for more in (1, None):
            with self.subTest(more=more):
                raw = await self.raw()
                length = raw.option["max_frame_bytes"] + more if more else 2**32 - 1
                header = self.header(self.kind("request"), 1, "Arith.multiply")
                raw.write(frame(header) + length.to_bytes(4, "big"))
                await self.expect_goaway(raw, "resource_exhausted")

    async def test_header_of_just_64_kib(self):
        def header(padding: int) -> bytes:
            pad = {"pad": "x" * padding}
            return self.header(self.kind("request"), 1, "Arith.multiply", 0, None, pad)

        raw = await self.raw()
        limit = min(64 * 1024, raw.option["max_frame_bytes"])
        padding = limit - (len(header(40000)) - 40000)
        self.assertEqual(len(header(padding)), limit)
        raw.write(frame(header(padding)) + frame(self.body({"a": 6, "b": 7})))
        self.expect_value(await self.next(raw), 1, 42)

    async def test_body_of_just_the_limit(self):
        raw = await self.raw()
        size = raw.option["max_frame_bytes"]
        if not 100_000 <= size <= 64 * 1024 * 1024:
            self.skipTest(f"max_frame_bytes is {size}")

        def body(padding: int) -> bytes:
            return self.body({"a": 6, "pad": "x" * padding, "b": 7})

        payload = body(size - (len(body(70000)) - 70000))
        self.assertEqual(len(payload), size)
        raw.write(self.message("request", 1, payload, service_method="Arith.multiply"))
        self.expect_value(await self.next(raw), 1, 42)

    async def test_response_over_the_clients_limit(self):
        raw = await self.raw(max_frame_bytes=2048)
        raw.write(self.request(1, "Echo.echo", {"data": b"x" * 4000}))
        self.expect_error(await self.next(raw), 1, "resource_exhausted", "done")
        raw.write(self.request(2, "Echo.echo", {"data": b"x" * 1000}))
        answer = await self.next(raw)
        self.assertIsNone(answer.header.error)
        self.assertEqual(self.codec.to_bytes(self.codec.decode(answer.body)), b"x" * 1000)

    async def test_response_of_just_the_clients_limit(self):
        # A bin with two bytes of length, or a string in quotes.
        size, room = (2048, 2045) if self.is_msgpack else (2050, 1536)
        raw = await self.raw(max_frame_bytes=size)
        raw.write(self.request(1, "Echo.echo", {"data": b"x" * room}))
        answer = await self.next(raw)
        self.assertIsNone(answer.header.error)
        self.assertEqual(len(answer.body), size)
        raw.write(self.request(2, "Echo.echo", {"data": b"x" * (room + 1)}))
        self.expect_error(await self.next(raw), 2, "resource_exhausted", "done")

    async def test_defaults_are_left_out(self):
        raw = await self.raw()
        raw.write(self.multiply(1) + self.request(2, "Nope.nope"))
        for answer in (await self.next(raw), await self.next(raw)):
            fields = self.codec.decode(answer.raw_header)
            if self.is_msgpack:
                self.assertNotIn(fields[-1], (None, "", 0, {}))
            else:
                for value in fields.values():
                    self.assertNotIn(value, (None, "", 0, {}))

    async def test_vector_requests(self):
        request = {
            MSGPACK: "00000015 940101ae41726974682e6d756c7469706c79cd01f4"
            "00000007 82a16106a16207",
            JSON: "0000004d 7b226b696e64223a2272657175657374222c22736571223a312c227365727669"
            "63655f6d6574686f64223a2241726974682e6d756c7469706c79222c2274696d656f75745f6d73"
            "223a3530307d 0000000d 7b2261223a362c2262223a377d",
        }
        with_metadata = {
            MSGPACK: "00000028 970104ae41726974682e6d756c7469706c7900c081af66617263616c6c2d"
            "617474656d7074a13204 00000003 920607",
            JSON: "00000069 7b226b696e64223a2272657175657374222c22736571223a342c227365727669"
            "63655f6d6574686f64223a2241726974682e6d756c7469706c79222c226d65746164617461223a"
            "7b2266617263616c6c2d617474656d7074223a2232227d2c22666c616773223a347d 00000005 "
            "5b362c375d",
        }
        cancel = {
            MSGPACK: "00000003 920303 00000000",
            JSON: "00000019 7b226b696e64223a2263616e63656c222c22736571223a337d 00000000",
        }
        ping = {
            MSGPACK: "00000003 920409 00000000",
            JSON: "00000017 7b226b696e64223a2270696e67222c22736571223a397d 00000000",
        }
        raw = await self.raw()
        raw.write(bytes.fromhex(request[self.codec_name]))
        self.expect_value(await self.next(raw), 1, 42)
        raw.write(bytes.fromhex(cancel[self.codec_name]))  # nothing to cancel: ignored
        raw.write(bytes.fromhex(ping[self.codec_name]))
        answer = await self.next(raw)
        self.assertEqual((answer.header.kind, answer.header.seq), ("pong", 9))
        self.assertEqual(answer.body, b"")
        raw.write(bytes.fromhex(with_metadata[self.codec_name]))
        self.expect_value(await self.next(raw), 4, 42)

    async def test_nil_for_a_default(self):
        raw = await self.raw()
        header = self.header(
            self.kind("request"), 1, "Arith.multiply", None, None, None, None
        )
        raw.write(frame(header) + frame(self.body({"a": 6, "b": 7})))
        self.expect_value(await self.next(raw), 1, 42)
        raw.write(frame(self.header(self.kind("ping"), 8, None, None)) + frame(b""))
        self.assertEqual((await self.next(raw)).header, Header("pong", 8))

    async def test_unknown_header_fields(self):
        raw = await self.raw()
        rest = (1, "Arith.multiply", 0, None, None, 0)
        header = self.header(
            self.kind("request"), *rest, colour="red", deep={"a": [1, None]}, n=-1
        )
        raw.write(frame(header) + frame(self.body({"a": 6, "b": 7})))
        self.expect_value(await self.next(raw), 1, 42)

    async def test_legal_encodings(self):
        raw = await self.raw()
        if self.is_msgpack:
            name = b"Arith.multiply"
            encodings = [
                # Integers of every width, the signed ones too (section 4.2).
                b"\x92\xcc\x04\xcc\x09",
                b"\x92\xcd\x00\x04\xcd\x00\x09",
                b"\x92\xce\x00\x00\x00\x04\xce\x00\x00\x00\x09",
                b"\x92\xcf" + bytes(7) + b"\x04\xcf" + bytes(7) + b"\x09",
                b"\x92\xd0\x04\xd0\x09",
                b"\x92\xd1\x00\x04\xd1\x00\x09",
                b"\x92\xd2\x00\x00\x00\x04\xd2\x00\x00\x00\x09",
                b"\x92\xd3" + bytes(7) + b"\x04\xd3" + bytes(7) + b"\x09",
                # Arrays with longer lengths.
                b"\xdc\x00\x02\x04\x09",
                b"\xdd\x00\x00\x00\x02\x04\x09",
            ]
            requests = [
                b"\x93\x01\x01\xd9\x0e" + name,
                b"\x93\x01\x02\xda\x00\x0e" + name,
                b"\x93\x01\x03\xdb\x00\x00\x00\x0e" + name,
                b"\x97\x01\x04\xae" + name + b"\xcd\x00\x00\xc0\xde\x00\x00\xcc\x04",
            ]
            bodies = [
                b"\x82\xa1a\xcc\x06\xa1b\xd3" + bytes(7) + b"\x07",
                b"\xde\x00\x02\xd9\x01a\x06\xda\x00\x01b\x07",
                b"\xdf\x00\x00\x00\x02\xa1b\x07\xa1a\x06",
                b"\xdd\x00\x00\x00\x02\xd0\x06\xcf" + bytes(7) + b"\x07",
            ]
        else:
            encodings = [
                b'{"kind":"ping","seq":9}',
                b' {\n"seq" : 9 ,\t"kind" : "ping" }\r\n',
                b'{"k\\u0069nd":"\\u0070ing","seq":9}',
            ]
            requests = [
                b'{"kind":"request","seq":1,"service_method":"Arith\\u002emultiply"}',
                b'{"flags":0,"service_method":"Arith.multiply","seq":2,"kind":"request"}',
                b'{"metadata":{},"kind":"request","seq":3,"service_method":"Arith.multiply"}',
            ]
            bodies = [
                b' { "b" : 7 , "a" : 6 } \n',
                b'{"\\u0061":6,"b":7}',
                b"\r\n[ 6,\t7 ]",
            ]
        for start in range(0, len(encodings), 9):  # no more pings than are allowed
            if start:
                raw = await self.raw()
            for header in encodings[start : start + 9]:
                with self.subTest(header=header):
                    raw.write(frame(header) + frame(b""))
                    self.assertEqual((await self.next(raw)).header, Header("pong", 9))
        for seq, (header, body) in enumerate(zip(requests, bodies), 1):
            with self.subTest(header=header, body=body):
                raw.write(frame(header) + frame(body))
                self.expect_value(await self.next(raw), seq, 42)

    async def test_unknown_flags(self):
        raw = await self.raw()
        for seq, flags in enumerate((0xF8, 0xF8 | 4, 0xFFF8, 0x8000_0000), 1):
            with self.subTest(flags=flags):
                raw.write(self.multiply(seq, flags=flags))
                self.expect_value(await self.next(raw), seq, 42)
        raw.write(self.message("ping", 6, flags=0xF0))
        self.assertEqual((await self.next(raw)).header, Header("pong", 6))

    async def test_metadata_of_a_request(self):
        raw = await self.raw()
        metadata = {
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "farcall-attempt": "3",
            "farcall-idempotency-key": "k",
            "of-the-application": "\u00fc \u4e16",
        }
        raw.write(self.multiply(1, metadata=metadata))
        self.expect_value(await self.next(raw), 1, 42)


# -------------------------------------------------------------------- protocol errors


class ProtocolErrorCases(ServerCase):
    async def expect_protocol_error(self, data: bytes) -> list[Answer]:
        raw = await self.raw()
        raw.write(data)
        return await self.expect_goaway(raw, "invalid_argument")

    async def test_unknown_kinds(self):
        kinds: list[Any] = [0, 7, 8, 11, 15, 16, 200, 2**40]
        if not self.is_msgpack:
            kinds = ["", "bogus", "Request", "REQUEST", "stream"]
        for kind in kinds:
            with self.subTest(kind=kind):
                await self.expect_protocol_error(
                    frame(self.header(kind, 1, "Arith.multiply")) + frame(b"")
                )

    async def test_kind_of_the_other_side(self):
        await self.expect_protocol_error(self.message("response", 1, self.body(42)))

    async def test_undecodable_headers(self):
        request = self.kind("request")
        headers = [
            b"",
            self.header(None, 1, "Arith.multiply"),
            self.header(request, None, "Arith.multiply"),
            self.header(request, "1", "Arith.multiply"),
            self.header(request, -1, "Arith.multiply"),
            self.header(request, 1.5, "Arith.multiply"),
            self.header(request, 1, 5),
            self.header(request, 1, "Arith.multiply", -1),
            self.header(request, 1, "Arith.multiply", 0, None, {"a": 1}),
            self.header(request, 1, "Arith.multiply", 0, None, ["a"]),
            self.header(request),
        ]
        if self.is_msgpack:
            headers += [b"\xc1", b"\x90", b"\x94\x01\x01", b"\x01", b"\xa1x"]
            headers += [msgpack.packb({"kind": 1, "seq": 1}), msgpack.packb(["request", 1])]
        else:
            headers += [b"{", b"[]", b"[1,1]", b"null", b"\xff", b'{"seq":1}']
            headers += [b'{"kind":1,"seq":1,"service_method":"Arith.multiply"}']
        for header in headers:
            with self.subTest(header=header):
                await self.expect_protocol_error(frame(header) + frame(b""))

    async def test_seq_that_does_not_grow(self):
        for second in (5, 4, 1):
            with self.subTest(second=second):
                raw = await self.raw()
                raw.write(self.multiply(5))
                self.expect_value(await self.next(raw), 5, 42)
                raw.write(self.multiply(second))
                self.assertEqual(await self.expect_goaway(raw, "invalid_argument"), [])

    async def test_seq_of_a_one_way_request_counts(self):
        others = await self.expect_protocol_error(self.multiply(3, flags=2) + self.multiply(3))
        self.assertEqual(others, [])

    async def test_seq_of_a_refused_request_counts(self):
        raw = await self.raw()
        raw.write(self.request(3, "Nope.nope"))
        self.expect_error(await self.next(raw), 3, "unimplemented", "refused")
        raw.write(self.multiply(3))
        await self.expect_goaway(raw, "invalid_argument")

    async def test_seq_zero(self):
        await self.expect_protocol_error(self.multiply(0))

    async def test_seq_beyond_what_json_holds(self):
        if self.is_msgpack:
            raw = await self.raw()
            await self.works(raw, 2**53)
            await self.works(raw, 2**64 - 1)
        else:
            raw = await self.raw()
            await self.works(raw, 2**53 - 1)
            await self.expect_protocol_error(self.multiply(2**53))

    async def test_gaps_are_fine(self):
        raw = await self.raw()
        for seq in (1, 2, 10, 1000, 2**32, 2**40):
            await self.works(raw, seq)

    async def test_goaway_border_is_not_below_what_was_started(self):
        raw = await self.raw()
        await self.works(raw, 7)
        raw.write(self.multiply(7))
        *_, last = await self.rest(raw)
        self.assertEqual(last.header.kind, "goaway")
        self.assertGreaterEqual(last.header.seq, 7)

    async def test_in_flight_is_cut(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.message("ping", 1))
        self.assertEqual((await self.next(raw)).header.kind, "pong")
        raw.write(self.message("response", 1))
        answers = await self.rest(raw)
        self.assertIn("goaway", [answer.header.kind for answer in answers])
        for answer in answers:
            if answer.header.kind == "response":
                self.assertIn(answer.header.error.execution, ("maybe", "refused"))

    async def test_what_follows_an_error_is_discarded(self):
        raw = await self.raw()
        raw.write(self.message("response", 1) + self.multiply(1) * 200)
        self.assertEqual(await self.expect_goaway(raw, "invalid_argument"), [])

    async def test_pings(self):
        raw = await self.raw()
        for number in (0, 1, 5, 5, 3, 2**53 - 1):
            raw.write(self.message("ping", number))
            answer = await self.next(raw)
            self.assertEqual(answer.header, Header("pong", number))
            self.assertEqual(answer.body, b"")
        await self.works(raw, 1)  # a ping's number is none of the requests'

    async def test_unasked_pong(self):
        raw = await self.raw()
        raw.write(self.message("pong", 1) + self.message("pong", 2**40))
        await self.works(raw, 1)

    async def test_many_pongs_are_no_flood(self):
        raw = await self.raw()
        raw.write(b"".join(self.message("pong", n) for n in range(1, 50)))
        await self.works(raw, 1)

    async def test_ten_pings_are_allowed_and_no_more(self):
        raw = await self.raw()
        for number in range(1, 11):
            raw.write(self.message("ping", number))
        for number in range(1, 11):
            self.assertEqual((await self.next(raw)).header, Header("pong", number))
        await self.works(raw, 1)
        raw.write(self.message("ping", 11))
        others = await self.expect_goaway(raw, "invalid_argument")
        self.assertNotIn("response", [answer.header.kind for answer in others])

    async def test_one_connection_does_not_harm_another(self):
        good = await self.raw()
        good.write(self.sleep(1, 50))
        await self.expect_protocol_error(self.message("response", 1))
        self.expect_value(await self.next(good), 1, 50)


# ----------------------------------------------------------------------------- the calls


class CallCases(ServerCase):
    # ---- arguments and results

    async def test_forms_of_arguments(self):
        raw = await self.raw()
        forms = (
            {"a": 6, "b": 7},
            {"b": 7, "a": 6},
            [6, 7],
            {"a": 6, "b": 7, "c": {"deep": [1]}},
            {"c": None, "b": 7, "d": "x", "a": 6},
        )
        for seq, args in enumerate(forms, 1):
            with self.subTest(args=args):
                raw.write(self.request(seq, "Arith.multiply", args))
                self.expect_value(await self.next(raw), seq, 42)

    async def test_wrong_arguments(self):
        raw = await self.raw()
        forms = (
            NOTHING,
            None,
            {},
            [],
            {"a": 6},
            {"b": 7},
            {"A": 6, "b": 7},
            [6],
            [6, 7, 8],
            {"a": "six", "b": 7},
            {"a": 6, "b": None},
            {"a": 6, "b": [7]},
            {"a": 6.5, "b": 7},
            {"a": 2**63, "b": 1},
            ["six", 7],
            42,
            "Arith",
            True,
        )
        for seq, args in enumerate(forms, 1):
            with self.subTest(args=args):
                raw.write(self.request(seq, "Arith.multiply", args))
                self.expect_error(await self.next(raw), seq, "invalid_argument", "refused")
        await self.works(raw, 100)

    async def test_where_nothing_is_required(self):
        raw = await self.raw()
        seq = 0
        for method in ("Echo.whoami", "farcall.services", "farcall.health", "farcall.stats"):
            for args in (NOTHING, None, {}, [], {"unknown": 1}):
                with self.subTest(method=method, args=args):
                    seq += 1
                    raw.write(self.request(seq, method, args))
                    answer = await self.next(raw)
                    self.assertEqual(answer.header.seq, seq)
                    self.assertIsNone(answer.header.error)
        raw.write(self.request(seq + 1, "Echo.whoami", [1]))
        error = await self.next(raw)
        self.expect_error(error, seq + 1, "invalid_argument", "refused")

    async def test_undecodable_bodies(self):
        good = self.body({"a": 6, "b": 7})
        bodies = [good[:-1], good + good, good + b"x"]
        if self.is_msgpack:
            bodies += [b"\xc1", good + b"\xc0", b"\x82\xa1a\x06", b"\xdf\xff\xff\xff\xff"]
            bodies += [b"\xdd\xff\xff\xff\xff\x06\x07", b"\x91" * 50_000]
        else:
            bodies += [b"{", b"six", b"\xff", b" ", good + b" ,", b"[6,7]]", b"[" * 50_000]
        raw = await self.raw()
        for seq, body in enumerate(bodies, 1):
            with self.subTest(body=body[:60]):
                raw.write(self.message("request", seq, body, service_method="Arith.multiply"))
                self.expect_error(await self.next(raw), seq, "invalid_argument", "refused")
        await self.works(raw, 100)

    async def test_trailing_white_space(self):
        if self.is_msgpack:
            self.skipTest("JSON only")
        raw = await self.raw()
        body = b'\n {"a":6,"b":7} \t\r\n'
        raw.write(self.message("request", 1, body, service_method="Arith.multiply"))
        self.expect_value(await self.next(raw), 1, 42)

    async def test_numbers(self):
        client = await self.client()
        for a, b in (
            (0, 5),
            (-3, 4),
            (I64_MAX, 1),
            (I64_MIN, 1),
            (3037000499, 3037000499),
            (2**53 + 1, 1),
        ):
            self.assertEqual(await client.call("Arith.multiply", {"a": a, "b": b}), a * b)
        self.assertEqual(await client.call("Arith.divide", {"a": 42, "b": -6}), -7)

    async def test_bytes(self):
        client = await self.client()
        for data in (b"", b"\x00", b"\x01\x02\xff", bytes(range(256)), os.urandom(70_001)):
            result = await client.call("Echo.echo", {"data": data})
            self.assertEqual(self.codec.to_bytes(result), data)

    async def test_bytes_as_in_the_document(self):
        raw = await self.raw()
        expected = bytes.fromhex("c4030102ff") if self.is_msgpack else b'"AQL/"'
        raw.write(self.request(1, "Echo.echo", {"data": b"\x01\x02\xff"}))
        self.assertEqual((await self.next(raw)).body, expected)

    async def test_text_that_is_no_base64(self):
        if self.is_msgpack:
            self.skipTest("JSON only")
        raw = await self.raw()
        for seq, text in enumerate(("*", "A", "AQL*"), 1):
            with self.subTest(text=text):
                raw.write(self.request(seq, "Echo.echo", {"data": text}))
                self.expect_error(await self.next(raw), seq, "invalid_argument", "refused")

    async def test_text(self):
        client = await self.client()
        counts = await client.call("Text.count", {"text": "one two two \u00e4 \u4e16"})
        self.assertIsInstance(counts, dict)

    # ---- errors of calls

    async def test_unknown_service_or_method(self):
        raw = await self.raw()
        names = (
            ("Nope.multiply", "Nope"),
            ("Arith.nope", "nope"),
            ("arith.multiply", "arith"),
            ("farcall.nope", "nope"),
            ("NoDotAtAll", "NoDotAtAll"),
            ("Arith", "Arith"),
            ("Arith.", ""),
            (".multiply", ""),
            (".", ""),
            ("", ""),
        )
        for seq, (name, named) in enumerate(names, 1):
            with self.subTest(name=name):
                raw.write(self.request(seq, name, {"a": 6, "b": 7}))
                error = self.expect_error(
                    await self.next(raw), seq, "unimplemented", "refused"
                )
                self.assertIn(named, error.message)
        await self.works(raw, 100)

    async def test_error_of_the_method(self):
        client = await self.client()
        for method, a, b in (
            ("Arith.divide", 1, 0),
            ("Arith.divide", I64_MIN, -1),
            ("Arith.multiply", I64_MAX, 2),
            ("Arith.multiply", I64_MIN, -1),
        ):
            with self.subTest(method=method, a=a, b=b):
                call = client.call(method, {"a": a, "b": b})
                error = await self.expect_call_error(call, "application", "done")
                self.assertIsNotNone(error.details)
        self.assertEqual(await client.call("Arith.multiply", [6, 7]), 42)

    async def test_details_are_in_the_body(self):
        raw = await self.raw()
        raw.write(self.request(1, "Arith.divide", {"a": 1, "b": 0}))
        answer = await self.next(raw)
        self.expect_error(answer, 1, "application", "done")
        self.codec.decode(answer.body)

    async def test_panic(self):
        client = await self.client()
        call = client.call("Echo.panic", {"message": "on purpose"})
        await self.expect_call_error(call, "internal", "done")
        self.assertEqual(await client.call("Arith.multiply", [6, 7]), 42)

    # ---- many calls

    async def test_out_of_order(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.multiply(2) + self.multiply(3, 2, 2))
        answers = {a.header.seq: a for a in (await self.next(raw), await self.next(raw))}
        self.expect_value(answers[2], 2, 42)
        self.expect_value(answers[3], 3, 4)
        raw.write(self.message("cancel", 1))
        self.expect_error(await self.next(raw), 1, "cancelled", "maybe", "refused")

    async def test_the_shorter_one_first(self):
        raw = await self.raw()
        raw.write(self.sleep(1, 4000) + self.sleep(2, 10))
        self.expect_value(await self.next(raw), 2, 10)
        self.expect_value(await self.next(raw), 1, 4000)

    async def test_a_thousand_in_flight(self):
        client = await self.client()
        waits = [200 + n % 100 for n in range(1000)]
        started = time.monotonic()
        calls = [asyncio.ensure_future(client.call("Echo.sleep", {"ms": w})) for w in waits]
        self.assertEqual(await asyncio.gather(*calls), waits)
        # One after the other they would take four minutes.
        self.assertLess(time.monotonic() - started, 100)
        self.assertEqual(client.in_flight, 0)

    async def test_a_thousand_different_answers(self):
        client = await self.client()
        calls = [client.call("Arith.multiply", {"a": n, "b": n}) for n in range(1000)]
        self.assertEqual(await asyncio.gather(*calls), [n * n for n in range(1000)])

    async def test_past_max_in_flight(self):
        raw = await self.raw()
        places = raw.option["max_in_flight"]
        if places > 20_000:
            self.skipTest(f"max_in_flight is {places}")
        raw.write(b"".join(self.sleep(seq) for seq in range(1, places + 1)))
        raw.write(self.multiply(places + 1))
        self.expect_error(await self.next(raw), places + 1, "resource_exhausted", "refused")
        # One place, and one only, is free when a cancelled call has been answered.
        raw.write(self.message("cancel", 1))
        self.expect_error(await self.next(raw), 1, "cancelled", "maybe", "refused")
        await self.works(raw, places + 2)
        raw.write(b"".join(self.message("cancel", seq) for seq in range(2, places + 1)))
        answered = set()
        for _ in range(2, places + 1):
            answer = await self.next(raw)
            self.expect_error(answer, answer.header.seq, "cancelled", "maybe", "refused")
            answered.add(answer.header.seq)
        self.assertEqual(answered, set(range(2, places + 1)))
        await self.works(raw, places + 3)

    async def test_client_holds_back_what_is_past_max_in_flight(self):
        client = await self.client()
        if client.terms.max_in_flight > 20_000:
            self.skipTest(f"max_in_flight is {client.terms.max_in_flight}")
        count = client.terms.max_in_flight * 2 + 10
        calls = [client.call("Arith.multiply", {"a": n, "b": 1}) for n in range(count)]
        self.assertEqual(await asyncio.gather(*calls), list(range(count)))

    # ---- cancel

    async def test_cancel_is_answered_once(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.message("ping", 1))
        self.assertEqual((await self.next(raw)).header.kind, "pong")
        raw.write(self.message("cancel", 1) * 3)
        # Cancelled in time or not, it is one answer; the goaway makes the list complete.
        raw.write(self.message("goaway", 1))
        (answer,) = await self.rest(raw)
        self.expect_error(answer, 1, "cancelled", "maybe", "refused")

    async def test_cancel_right_behind_the_request(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.message("cancel", 1) + self.message("goaway", 1))
        (answer,) = await self.rest(raw)
        self.expect_error(answer, 1, "cancelled", "refused", "maybe")

    async def test_cancel_and_result_race(self):
        raw = await self.raw()
        for seq in range(1, 201):
            raw.write(self.multiply(seq) + self.message("cancel", seq))
        raw.write(self.request(201, "Echo.burn", {"us": 20_000}))
        raw.write(self.message("cancel", 201) + self.message("goaway", 201))
        answers = await self.rest(raw)
        self.assertEqual(sorted(a.header.seq for a in answers), list(range(1, 202)))
        for answer in answers:
            if answer.header.error is None and answer.header.seq <= 200:
                self.expect_value(answer, answer.header.seq, 42)
            elif answer.header.error is not None:
                self.assertEqual(answer.header.error.code, "cancelled")

    async def test_cancel_of_what_is_not_in_flight(self):
        raw = await self.raw()
        raw.write(self.message("cancel", 1) + self.message("cancel", 77))
        await self.works(raw, 1)
        raw.write(self.message("cancel", 1))
        await self.works(raw, 2)
        await self.works(raw, 77)

    async def test_cancel_of_the_waiting_task(self):
        client = await self.client()
        task = asyncio.ensure_future(client.call("Echo.sleep", {"ms": FOREVER_MS}))
        await self.until(lambda: client.in_flight == 1)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(client.in_flight, 1)  # it keeps its place until the answer
        await self.until(lambda: client.in_flight == 0)
        self.assertEqual(await client.call("Arith.multiply", [6, 7]), 42)

    # ---- time

    async def test_deadline(self):
        raw = await self.raw()
        raw.write(self.sleep(1, timeout_ms=100))
        self.expect_error(await self.next(raw), 1, "deadline_exceeded", "maybe", "refused")
        await self.works(raw, 2)

    async def test_the_shortest_deadline(self):
        raw = await self.raw()
        raw.write(self.sleep(1, timeout_ms=1))
        error = await self.next(raw)
        self.expect_error(error, 1, "deadline_exceeded", "maybe", "refused")

    async def test_no_deadline(self):
        raw = await self.raw()
        header = self.header(self.kind("request"), 1, "Echo.sleep", 0)
        raw.write(frame(header) + frame(self.body({"ms": 50})))
        self.expect_value(await self.next(raw), 1, 50)

    async def test_a_deadline_in_the_far_future(self):
        raw = await self.raw()
        for seq, ms in enumerate((2**31, 2**32, 2**53 - 1), 1):
            raw.write(self.sleep(seq, 1, timeout_ms=ms))
            self.expect_value(await self.next(raw), seq, 1)

    async def test_deadline_of_the_client(self):
        client = await self.client()
        call = client.call("Echo.sleep", {"ms": FOREVER_MS}, timeout=0.1)
        # On a busy machine the time may be over before it is sent.
        await self.expect_call_error(call, "deadline_exceeded", "maybe", "refused", "not_sent")
        await self.until(lambda: client.in_flight == 0)
        call = client.call("Echo.sleep", {"ms": 1}, timeout=0)
        await self.expect_call_error(call, "deadline_exceeded", "not_sent")
        self.assertEqual(await client.call("Echo.sleep", {"ms": 1}, timeout=60), 1)

    # ---- one-way and idempotent

    async def test_one_way_gets_no_answer(self):
        raw = await self.raw()
        raw.write(
            self.multiply(1, flags=2)
            + self.request(2, "Nope.nope", flags=2)
            + self.request(3, "Arith.multiply", {"a": "six"}, flags=2)
            + self.request(4, "Echo.panic", {"message": "on purpose"}, flags=2)
            + self.sleep(5, timeout_ms=1, flags=2)
            + self.multiply(6)
            + self.message("goaway", 6)
        )
        (answer,) = await self.rest(raw)
        self.expect_value(answer, 6, 42)

    async def test_notify(self):
        client = await self.client()
        await client.notify("Arith.multiply", {"a": 6, "b": 7})
        await client.notify("Nope.nope")
        self.assertEqual(await client.call("Arith.multiply", [6, 7], idempotent=True), 42)
        self.assertEqual(client.in_flight, 0)

    async def test_too_large_is_not_sent(self):
        client = await self.client()
        data = b"x" * (client.terms.max_frame_bytes + 1)
        call = client.call("Echo.echo", {"data": data})
        await self.expect_call_error(call, "resource_exhausted", "not_sent")
        call = client.call("Arith.multiply", [6, 7], metadata={"k": "x" * 70_000})
        await self.expect_call_error(call, "resource_exhausted", "not_sent")
        self.assertEqual(await client.call("Arith.multiply", [6, 7]), 42)

    # ---- goaway, and the end of the stream

    async def test_goaway_of_an_idle_client(self):
        raw = await self.raw()
        raw.write(self.message("goaway", 0))
        await self.ended(raw)

    async def test_goaway_finishes_what_is_in_flight(self):
        for half_close in (False, True):
            with self.subTest(half_close=half_close):
                raw = await self.raw()
                raw.write(self.sleep(1, 200) + self.sleep(2, 100) + self.message("goaway", 2))
                if half_close:
                    raw.write_eof()
                # On a busy machine both may be over at once.
                first, second = sorted(await self.rest(raw), key=lambda answer: answer.header.seq)
                self.expect_value(first, 1, 200)
                self.expect_value(second, 2, 100)

    async def test_ping_and_cancel_behind_a_goaway(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.message("goaway", 1) + self.message("ping", 4))
        self.assertEqual((await self.next(raw)).header, Header("pong", 4))
        raw.write(self.message("cancel", 1))
        (answer,) = await self.rest(raw)
        self.expect_error(answer, 1, "cancelled", "maybe", "refused")

    async def test_request_behind_a_goaway(self):
        raw = await self.raw()
        raw.write(self.sleep(1) + self.message("goaway", 1) + self.multiply(2))
        others = await self.expect_goaway(raw, "invalid_argument")
        self.assertNotIn(2, [answer.header.seq for answer in others])

    async def test_close_waits_for_the_answers(self):
        client = await self.client()
        call = asyncio.ensure_future(client.call("Echo.sleep", {"ms": 150}))
        await self.until(lambda: client.in_flight == 1)
        await client.close()
        self.assertEqual(await call, 150)
        late = client.call("Arith.multiply", [6, 7])
        await self.expect_call_error(late, "unavailable", "not_sent")

    async def test_end_of_stream_cancels(self):
        raw = await self.raw()
        raw.write(self.sleep(1))
        raw.write_eof()
        for answer in await self.rest(raw):  # at most the cancelled call, then the end
            self.expect_error(answer, 1, "cancelled", "maybe", "refused")

    async def test_reset_harms_nobody_else(self):
        good = await self.raw()
        for _ in range(20):
            bad = await self.raw()
            bad.write(self.sleep(1))
            bad.abort()
        await self.works(good, 1)

    # ---- what every server answers

    async def test_services(self):
        client = await self.client()
        services = {s["name"]: s for s in await client.call("farcall.services")}
        self.assertLessEqual({"Arith", "Echo", "Text"}, set(services))
        for service in services.values():
            self.assertIsInstance(service["doc"], str)
            for method in service["methods"]:
                self.assertIsInstance(method["name"], str)
                self.assertNotIn(".", method["name"])
                self.assertIsInstance(method["doc"], str)
                self.assertIsInstance(method["returns"], str)
                self.assertIsInstance(method["idempotent"], bool)
                self.assertIsInstance(method["streaming"], bool)
                for parameter in method["params"]:
                    self.assertLessEqual({"name", "type"}, set(parameter))
        methods = {m["name"]: m for m in services["Arith"]["methods"]}
        self.assertEqual(
            methods["multiply"]["params"],
            [{"name": "a", "type": "i64"}, {"name": "b", "type": "i64"}],
        )
        self.assertIn("divide", methods)
        self.assertLessEqual(
            {"echo", "sleep", "panic", "whoami", "burn"},
            {m["name"] for m in services["Echo"]["methods"]},
        )

    async def test_health(self):
        client = await self.client()
        for args in (None, {}, {"service": "Arith"}, {"service": None}, ["Arith"]):
            with self.subTest(args=args):
                answer = await client.call("farcall.health", args)
                self.assertEqual(answer["status"], "serving")

    async def test_stats(self):
        client = await self.client()

        async def entry(name: str) -> Optional[dict[str, Any]]:
            stats = await client.call("farcall.stats")
            return {s["name"]: s for s in stats}.get(name)

        async def reach(name: str, field: str, least: int) -> dict[str, Any]:
            while True:
                found = await entry(name)
                if found is not None and found[field] >= least:
                    return found
                await asyncio.sleep(0.01)

        before = await entry("Arith.divide") or {"calls": 0, "errors": 0}
        await client.call("Arith.divide", [6, 3])
        call = client.call("Arith.divide", [6, 0])
        await self.expect_call_error(call, "application", "done")
        after = await reach("Arith.divide", "calls", before["calls"] + 2)
        self.assertGreater(after["errors"], before["errors"])
        for field in ("in_flight", "p50_us", "p90_us", "p99_us", "max_us"):
            self.assertIsInstance(after[field], int, field)
        sleeper = asyncio.ensure_future(client.call("Echo.sleep", {"ms": FOREVER_MS}))
        await reach("Echo.sleep", "in_flight", 1)
        sleeper.cancel()

    async def test_whoami(self):
        one, two = await self.client(), await self.client()
        first, second = await one.call("Echo.whoami"), await two.call("Echo.whoami")
        self.assertEqual(first, second)
        self.assertIn("instance", first)
        self.assertIsInstance(first["pid"], int)

    async def test_burn(self):
        client = await self.client()
        await client.call("Echo.burn", {"us": 1000})

    # ---- keep-alive

    @unittest.skipUnless(os.environ.get("FARCALL_SLOW"), "FARCALL_SLOW is not set")
    async def test_silence(self):
        raw = await self.raw()
        answer = await self.next(raw)
        self.assertEqual(answer.header.kind, "ping")
        self.assertEqual(answer.body, b"")
        raw.write(self.message("pong", answer.header.seq))
        # The second one is left without an answer, and the server gives up.
        answers = await self.rest(raw)
        self.assertEqual(answers[0].header.kind, "ping")

    @unittest.skipUnless(os.environ.get("FARCALL_SLOW"), "FARCALL_SLOW is not set")
    async def test_a_quiet_connection_stays_alive(self):
        client = await self.client()
        self.assertEqual(await client.call("Echo.sleep", {"ms": 25_000}), 25_000)


# ------------------------------------------------------ each codec over each transport


class AllCases(HandshakeCases, FrameCases, ProtocolErrorCases, CallCases):
    pass


class MsgpackTcpTest(AllCases, unittest.IsolatedAsyncioTestCase):
    codec_name, variable = MSGPACK, "FARCALL_TCP"


class JsonTcpTest(AllCases, unittest.IsolatedAsyncioTestCase):
    codec_name, variable = JSON, "FARCALL_TCP"


class MsgpackUnixTest(AllCases, unittest.IsolatedAsyncioTestCase):
    codec_name, variable = MSGPACK, "FARCALL_UNIX"


class JsonUnixTest(AllCases, unittest.IsolatedAsyncioTestCase):
    codec_name, variable = JSON, "FARCALL_UNIX"


if __name__ == "__main__":
    unittest.main()
