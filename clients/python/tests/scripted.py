"""Shared by the tests of streams against a scripted server."""

from __future__ import annotations

from typing import Any

from support import AsyncCase, FakeServer, Peer, Script

import farcall

AGREED = {"features": ["streams"], "max_streams": 256}


async def answering_cancels(peer: Peer) -> None:
    """Answers cancels, and ignores everything else."""
    while True:
        data, _ = await peer.stream.read_message()
        header = peer.codec.decode_header(data)
        peer.received.append(header)
        if header.kind == "cancel":
            peer.fail(header.seq, "cancelled", "maybe")


async def until_end(peer: Peer) -> None:
    """Reads until the client has sent all its items."""
    while peer.codec.decode_header((await peer.stream.read_message())[0]).kind != "end":
        pass


class StreamCase(AsyncCase):
    async def serving(
        self, *scripts: Script, codec: str = "json", terms: Any = None, **settings: Any
    ) -> farcall.Client:
        """Returns a client of a server that streams."""
        terms = {**AGREED, **(terms or {})}
        self.server = await FakeServer.start(self, *scripts, codec=codec, **terms)
        return await self.connect(self.server.address, codec=codec, **settings)

    async def assert_frames(self, peer: Peer, *expected: bytes) -> None:
        """Asserts that the next frames are these."""
        for payload in expected:
            self.assertEqual((await peer.stream.read_frame()).hex(), payload.hex())

    async def items_of(self, stream: Any) -> list[Any]:
        return [item async for item in stream]

    async def result_of(self, stream: Any) -> Any:
        """Returns the final value of a stream without items."""
        self.assertEqual(await self.items_of(stream), [])
        return await stream.finish()

    async def assert_fails_after(
        self, stream: Any, items: list[Any], kind: type, *executions: str
    ) -> Any:
        """Returns the error with which a stream ends after these items."""
        for expected in items:
            self.assertEqual(await stream.__anext__(), expected)
        error = await self.assert_fails(stream.__anext__(), kind, *executions)
        self.assertEqual(await self.items_of(stream), [])  # the error is raised once
        await self.assert_fails(stream.finish(), kind, *executions)
        return error
