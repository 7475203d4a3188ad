"""Tests of the codecs with the vectors of the protocol's specification."""

from __future__ import annotations

import json
import re
import unittest

from support import REPOSITORY

from farcall.codec import JsonCodec, codec_named
from farcall.handshake import option_of
from farcall.wire import Header, WireError, frame

DOCUMENT = (REPOSITORY / "docs/PROTOCOL.md").read_text("utf-8")

UNIMPLEMENTED = WireError("unimplemented", "no method `divide` in service `Arith`", "refused")
RETRY = Header("request", 4, "Arith.multiply", metadata={"farcall-attempt": "2"}, flags=4)
MULTIPLY = Header("request", 1, "Arith.multiply", 500)

#: The messages of the vectors in each section, in order.
MESSAGES = {
    "msgpack": [
        (MULTIPLY, {"a": 6, "b": 7}),
        (Header("response", 1), 42),
        (Header("response", 2, error=UNIMPLEMENTED), None),
        (Header("cancel", 3), None),
        (Header("ping", 9), None),
    ],
    "json": [
        (MULTIPLY, {"a": 6, "b": 7}),
        (Header("response", 1), 42),
        (Header("response", 2, error=UNIMPLEMENTED), None),
        (Header("cancel", 3), None),
        (Header("ping", 9), None),
        (Header("pong", 9), None),
        (RETRY, [6, 7]),
        (Header("goaway", 4), None),
    ],
}


def frames_of(title: str) -> list[bytes]:
    """Returns the payloads of all frames in a section: lines of hex, indented by four."""
    section = DOCUMENT.split(f"### {title}\n")[1].split("\n## ")[0].split("\n### ")[0]
    lines = re.findall(r"^ {4}([0-9a-f ]+)$", section, re.MULTILINE)
    data = bytes.fromhex("".join(lines))
    frames = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        assert len(data) >= end, "the vector is shorter than its length says"
        frames.append(data[4:end])
        data = data[end:]
    return frames


class VectorTest(unittest.TestCase):
    def check(self, name: str, title: str) -> None:
        codec = codec_named(name)
        option, *frames = frames_of(title)
        required = ("magic_number", "version", "codec_type")
        sent = option_of(
            codec, connect_timeout=10, handle_timeout=None, max_frame_bytes=1, token=None
        )
        self.assertEqual(JsonCodec().encode({k: sent[k] for k in required}), option)
        self.assertEqual(len(frames), 2 * len(MESSAGES[name]))
        for (header, value), data, body in zip(MESSAGES[name], frames[::2], frames[1::2]):
            with self.subTest(header=header):
                self.assertEqual(codec.encode_header(header), data)
                self.assertEqual(codec.decode_header(data), header)
                if value is None:
                    self.assertEqual(body, b"")
                else:
                    self.assertEqual(codec.encode(value), body)
                    self.assertEqual(codec.decode(body), value)

    def test_msgpack(self):
        self.check("msgpack", "16.1 MessagePack")

    def test_streams(self):
        messages = [
            (Header("request", 1, "Feed.count", flags=8), {"from": 3, "to": 5}),
            (Header("item", 1), 3),
            (Header("item", 1, flags=16), 4),
            (Header("credit", 1), 327_680),
            (Header("end", 1), None),
            (Header("stop", 1), None),
            (Header("response", 1), 2),
        ]
        frames = frames_of("18.8 Vectors")
        self.assertEqual(len(frames), 2 * len(messages))
        text = DOCUMENT.split("### 18.8 Vectors")[1]
        for (header, value), data, body in zip(messages, frames[::2], frames[1::2]):
            codec = codec_named("msgpack")
            self.assertEqual(codec.encode_header(header), data)
            self.assertEqual(codec.decode_header(data), header)
            self.assertEqual(b"" if value is None else codec.encode(value), body)
            self.assertIn(f"`{JsonCodec().encode_header(header).decode()}`", text)

    def test_json(self):
        self.check("json", "16.2 JSON")

    def test_examples_of_headers(self):
        examples = re.findall(r"^(9[0-9a-f]+)\n  9", DOCUMENT, re.MULTILINE)
        headers = [MULTIPLY, RETRY, Header("response", 2, error=UNIMPLEMENTED)]
        self.assertEqual(len(examples), len(headers))
        for example, header in zip(examples, headers):
            codec = codec_named("msgpack")
            self.assertEqual(codec.encode_header(header).hex(), example)
            self.assertEqual(codec.decode_header(bytes.fromhex(example)), header)

    def test_a_compressed_header_decodes(self):
        (line,) = re.findall(r"^00000018 (9701[0-9a-f]+)$", DOCUMENT, re.MULTILINE)
        header = codec_named("msgpack").decode_header(bytes.fromhex(line))
        self.assertEqual(header, Header("request", 1, "Arith.multiply", 500, flags=1))

    def test_a_frame_is_a_length_and_so_many_bytes(self):
        self.assertEqual(frame(b""), bytes(4))
        self.assertEqual(frame(b"x" * 258), b"\0\0\1\2" + b"x" * 258)

    def test_limits_are_those_of_the_document(self):
        from farcall import wire

        for text, limit in (
            (r"\| Option \| (\d+) KiB", wire.MAX_OPTION_BYTES),
            (r"\| header \| (\d+) KiB", wire.MAX_HEADER_BYTES),
        ):
            (kib,) = re.findall(text, DOCUMENT)
            self.assertEqual(int(kib) * 1024, limit)
        for table, row in (
            (wire.ALL_KINDS, r"^\| (\w+) \| (\d+) \| `\"\w+\"` \|"),
            (wire.CODES, r"^\| `(\w+)` \| (\d+) \| (?!the handler|the server never|it was)"),
        ):
            found = {name: int(n) for name, n in re.findall(row, DOCUMENT, re.MULTILINE)}
            self.assertEqual(found, table)

    def test_each_code_has_a_class(self):
        from farcall.errors import BY_CODE
        from farcall.wire import CODES

        self.assertEqual(set(BY_CODE), set(CODES))
        for code, kind in BY_CODE.items():
            self.assertEqual(kind.code, code)


class CodecTest(unittest.TestCase):
    def test_bytes(self):
        data = bytes.fromhex("0102ff")
        self.assertEqual(codec_named("msgpack").encode(data).hex(), "c4030102ff")
        self.assertEqual(codec_named("json").encode(data), b'"AQL/"')
        for codec in (codec_named("msgpack"), codec_named("json")):
            again = codec.decode(codec.encode({"data": data}))["data"]
            self.assertEqual(codec.to_bytes(again), data)

    def test_an_unknown_code_is_internal_and_an_unknown_execution_maybe(self):
        expected = WireError("internal", "m", "maybe")
        codec = codec_named("msgpack")
        for error in ([99, "m", 99], [99, "m"], [None, "m", None], [[], "m", 3, "more"]):
            header = codec.decode_header(codec.encode([2, 1, "", 0, error]))
            self.assertEqual(header.error, expected)
        for error in (
            {"code": "new", "message": "m", "execution": "new"},
            {"code": "new", "message": "m", "more": 1},
            {"code": None, "message": "m", "execution": "not_sent"},
            {"code": [], "message": "m", "execution": {}},
        ):
            data = json.dumps({"kind": "response", "seq": 1, "error": error}).encode()
            self.assertEqual(codec_named("json").decode_header(data).error, expected)

    def test_null_is_a_default_and_what_is_unknown_is_ignored(self):
        ping = Header("ping", 9)
        msgpack, plain = codec_named("msgpack"), codec_named("json")
        for fields in ([4, 9], [4, 9, None, None, None, None, None], [4, 9, "", 0, None, {}, 0, 1]):
            header = msgpack.decode_header(msgpack.encode(fields))
            self.assertEqual((header.kind, header.seq), (ping.kind, ping.seq))
        data = b'{"flags":null,"x":[],"seq":9,"kind":"ping","error":null,"timeout_ms":null}'
        self.assertEqual(plain.decode_header(data), ping)

    def test_headers_that_are_none(self):
        from farcall.wire import ProtocolError

        msgpack, plain = codec_named("msgpack"), codec_named("json")
        wrong = [
            (msgpack, msgpack.encode(value))
            for value in (
                *(
                    [7, 1],
                    ["ping", 1],
                    [True, 1],
                    [4],
                    [4, -1],
                    [4, "1"],
                    [4, 1.5],
                    [4, None],
                    {},
                    4,
                ),
                *([2, 1, 5], [2, 1, "", -1], [2, 1, "", 0, "x"], [2, 1, "", 0, None, {"a": 1}]),
            )
        ]
        wrong += [
            (msgpack, b""),
            (msgpack, b"\xc1"),
            (msgpack, b"\x92\x04"),
            (msgpack, b"\x91" * 9000),
        ]
        wrong += [
            (plain, text.encode())
            for text in (
                *(
                    "",
                    "{",
                    "[]",
                    "null",
                    '{"kind":4,"seq":1}',
                    '{"kind":"x","seq":1}',
                    '{"kind":"ping"}',
                ),
                *(
                    '{"kind":"ping","seq":9007199254740992}',
                    '{"kind":"ping","seq":NaN}',
                    "[" * 9000,
                ),
                *('{"kind":"ping","seq":1,"error":[]}', '{"kind":"ping","seq":1,"metadata":[]}'),
            )
        ] + [(plain, b"\xff")]
        for codec, data in wrong:
            with self.subTest(data=data[:60]), self.assertRaises(ProtocolError):
                codec.decode_header(data)

    def test_values_without_a_form(self):
        for codec in (codec_named("json"), codec_named("msgpack")):
            for value in (object(), {1, 2}, [1j], "\ud800"):
                with self.assertRaises((TypeError, ValueError)):
                    codec.encode(value)
        for value in (float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                codec_named("json").encode(value)
        with self.assertRaises(OverflowError):
            codec_named("msgpack").encode(2**64)

    def test_a_value_is_all_of_its_bytes(self):
        for codec, bad in (
            ("json", b"1 2"),
            ("json", b"NaN"),
            ("msgpack", b"\x01\x02"),
            ("msgpack", b""),
        ):
            with self.assertRaises(ValueError):
                codec_named(codec).decode(bad)
        self.assertEqual(codec_named("json").decode(b" 1\r\n"), 1)
        self.assertEqual(codec_named("json").decode(b"9223372036854775807"), 2**63 - 1)

    def test_a_codec_that_is_none(self):
        with self.assertRaisesRegex(ValueError, "'xml' is neither 'json' nor 'msgpack'"):
            codec_named("xml")


if __name__ == "__main__":
    unittest.main()
