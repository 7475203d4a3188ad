"""A connection for tests that send exactly the bytes they want, right or wrong.

It is the lowest layer of the package ``farcall``, and what a test needs beside that.
"""

from __future__ import annotations

import json
from typing import Any

from farcall.address import Address
from farcall.codec import Codec, JsonCodec, MsgpackCodec
from farcall.handshake import read_option
from farcall.opening import open_stream
from farcall.stream import FrameStream
from farcall.tls import Tls
from farcall.wire import Header, frame

MSGPACK = MsgpackCodec.content_type
JSON = JsonCodec.content_type

CODECS: dict[str, Any] = {MSGPACK: MsgpackCodec(), JSON: JsonCodec()}
#: How `farcall.connect` calls them.
CODEC_NAMES = {MSGPACK: "msgpack", JSON: "json"}


class Refused(Exception):
    """The server refused the handshake.  ``option`` is what it answered."""

    def __init__(self, option: dict[str, Any]):
        super().__init__(str(option))
        self.option = option


def message(codec: Codec, header: Header, body: bytes = b"") -> bytes:
    """The two frames of a message (section 4.1)."""
    return frame(codec.encode_header(header)) + frame(body)


class RawConnection:
    """A stream of frames.  No rule of the protocol is enforced on what is written."""

    def __init__(self, stream: FrameStream):
        self.stream = stream
        self.option: dict[str, Any] = {}
        self.write = stream.write
        self.write_frame = stream.write_frame
        self.flush = stream.flush
        self.read_message = stream.read_message
        self.abort = stream.abort

    @classmethod
    async def open(cls, address: str) -> RawConnection:
        return cls(await open_stream(Address.parse(address), Tls()))

    async def handshake(self, option: dict[str, Any]) -> dict[str, Any]:
        """Sends an Option and returns the server's, or raises `Refused`."""
        self.write_frame(json.dumps(option).encode())
        return await self.read_option()

    async def read_option(self) -> dict[str, Any]:
        """The server's Option, or `Refused` if it is a refusal."""
        option = await read_option(self.stream)
        if option.get("error") is not None:
            raise Refused(option)
        return option

    def write_eof(self) -> None:
        """Closes this side's half of the stream."""
        self.stream._writer.write_eof()
