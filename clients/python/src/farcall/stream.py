"""Frames over a byte stream.  What they mean is for others."""

from __future__ import annotations

import asyncio
import contextlib
import time

from .wire import (
    DEFAULT_MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    EndOfStream,
    FrameTooLarge,
    frame,
)

#: What may wait to be sent before writers have to wait; asyncio's own default.
FULL_BYTES = 64 * 1024
#: How long the last bytes may take to go out once the stream is closed, in seconds.
LINGER = 1.0


class FrameStream:
    """Reads frames, and writes bytes.  No rule is enforced on what is written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._header: bytes | None = None
        self._draining = asyncio.Lock()  # before Python 3.11 only one may do so at a time
        #: When the last byte came, by the monotonic clock.
        self.last_heard = time.monotonic()

    # Writing never waits, and what one call of it is given stays together.

    def write(self, data: bytes) -> None:
        """Takes bytes to be sent."""
        self._writer.write(data)

    def write_frame(self, payload: bytes) -> None:
        """Takes a frame to be sent."""
        self.write(frame(payload))

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that whoever has more should wait, too."""
        return self._writer.transport.get_write_buffer_size() > FULL_BYTES

    async def flush(self) -> None:
        """Waits until the stream wants more."""
        async with self._draining:
            await self._writer.drain()

    # Reading.  A reader that is cancelled loses nothing.

    async def read_frame(self, limit: int = DEFAULT_MAX_FRAME_BYTES) -> bytes:
        """The next frame; the limit is checked before there is memory for it."""
        await self._need(4)
        length = int.from_bytes(self._buffer[:4], "big")
        if length > limit:
            raise FrameTooLarge(length, limit)
        await self._need(4 + length)
        with memoryview(self._buffer) as view:
            payload = bytes(view[4 : 4 + length])
        del self._buffer[: 4 + length]
        return payload

    async def read_message(
        self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    ) -> tuple[bytes, bytes]:
        """The header and the body of the next message, as they came."""
        if self._header is None:
            self._header = await self.read_frame(min(MAX_HEADER_BYTES, max_frame_bytes))
        body = await self.read_frame(max_frame_bytes)
        header, self._header = self._header, None
        return header, body

    async def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            data = await self._reader.read(64 * 1024)
            if not data:
                raise EndOfStream(clean=not self._buffer and self._header is None)
            self.last_heard = time.monotonic()
            self._buffer += data

    def close(self) -> None:
        """Closes the stream once what was written has gone out, or after a second."""
        self._writer.close()
        asyncio.get_running_loop().call_later(LINGER, self.abort)

    def abort(self) -> None:
        """Closes the stream at once, if it is not closed already."""
        # A TLS stream of Python 3.11 that is closed cannot be aborted any more.
        with contextlib.suppress(AttributeError):
            self._writer.transport.abort()

    async def wait_closed(self) -> None:
        """Waits until a stream that was closed is so."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
