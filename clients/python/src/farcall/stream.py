"""Frames over a byte stream, without their meaning."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from .wire import (
    DEFAULT_MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    EndOfStream,
    FrameTooLarge,
    frame,
)

#: The number of unsent bytes above which writers wait; asyncio's default.
MAX_BUFFERED_BYTES = 64 * 1024
#: The time limit for the last bytes after the stream is closed, in seconds.
LINGER = 1.0


class FrameStream:
    """Reads frames, and writes bytes without checking them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._header: bytes | None = None
        #: The number of bytes written so far, also of those that are still buffered.
        self.written = 0
        self._draining = asyncio.Lock()  # before Python 3.11 only one task may drain at a time
        _wait_for_all(writer.transport)
        #: The time of the last received byte, by the monotonic clock.
        self.last_received = time.monotonic()

    # Writing never waits, and the bytes of one call stay together.

    def write(self, data: bytes) -> None:
        """Queues bytes to send."""
        self.written += len(data)
        self._writer.write(data)

    def write_frame(self, payload: bytes) -> None:
        """Queues a frame to send."""
        self.write(frame(payload))

    @property
    def buffered(self) -> int:
        """The number of bytes that are not handed to the operating system yet."""
        return self._writer.transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """The number of bytes that the operating system has taken so far; with TLS, an estimate."""
        # TLS buffers twice.
        tls = getattr(self._writer.transport, "_ssl_protocol", None)
        plain = getattr(tls, "_transport", None)
        return self.written - self.buffered - (plain.get_write_buffer_size() if plain else 0)

    @property
    def is_full(self) -> bool:
        """True if so many bytes are unsent that further writers should wait."""
        return self.buffered > MAX_BUFFERED_BYTES

    def limit_unsent(self, count: int) -> None:
        """Lets the operating system take few bytes that it cannot send yet, where it can do so.

        What is written later then waits behind few bytes, and a slow peer is noticed early.
        """
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        held = self._writer.get_extra_info("socket")
        if option is not None and held is not None:
            with contextlib.suppress(OSError):  # no TCP
                held.setsockopt(socket.IPPROTO_TCP, option, count)

    async def flush(self) -> None:
        """Waits until all written bytes are handed to the operating system."""
        async with self._draining:
            await self._writer.drain()

    # Reading.  A reader that is cancelled loses nothing.

    async def read_frame(self, limit: int = DEFAULT_MAX_FRAME_BYTES) -> bytes:
        """Reads the next frame; the limit is checked before memory is reserved for it."""
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
        """Reads the header and the body of the next message."""
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
            self.last_received = time.monotonic()
            self._buffer += data

    def close(self) -> None:
        """Closes the stream after all written bytes are sent, or after a second."""
        self._writer.close()
        asyncio.get_running_loop().call_later(LINGER, self.abort)

    def abort(self) -> None:
        """Closes the stream at once, if it is not closed already."""
        # A TLS stream of Python 3.11 that is closed cannot be aborted any more.
        with contextlib.suppress(AttributeError):
            self._writer.transport.abort()

    async def wait_closed(self) -> None:
        """Waits until the closed stream has ended."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _wait_for_all(transport: asyncio.WriteTransport) -> None:
    """Lets `StreamWriter.drain` wait until no byte is buffered."""
    tls = getattr(transport, "_ssl_protocol", None)
    if tls is None:
        transport.set_write_buffer_limits(high=0)
        return
    # TLS buffers twice; the limit 0 would pause it for ever in some versions of Python.
    transport.set_write_buffer_limits(high=1, low=0)
    plain = getattr(tls, "_transport", None)
    if plain is not None:
        plain.set_write_buffer_limits(high=0)
