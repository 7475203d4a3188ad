"""Shared by the tests: a time limit, a scripted server, the demo's server."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import subprocess
import sys
import time
import types
import unittest
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
REPOSITORY = PACKAGE.parent.parent
sys.path.insert(0, str(PACKAGE / "src"))

import farcall  # noqa: E402
from farcall.codec import JsonCodec, codec_named  # noqa: E402
from farcall.stream import FrameStream  # noqa: E402
from farcall.wire import EndOfStream, Header, WireError, frame  # noqa: E402

#: The limit for what happens soon, in seconds, on a busy machine as well.  Only a test that
#: fails waits for so long.
SOON = 300.0


class AsyncCase(unittest.IsolatedAsyncioTestCase):
    """Tests with a time limit, which fail on errors that asyncio logs."""

    def __init__(self, name: str = "runTest"):
        super().__init__(name)
        test = getattr(self, name)

        @functools.wraps(test)
        async def limited() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(self._on_exception)
            loop.set_debug(False)  # it slows thousands of tasks
            await asyncio.wait_for(test(), 2 * SOON)

        setattr(self, name, limited)
        self._unhandled: list[str] = []
        self.addCleanup(self._assert_nothing_unhandled)

    def _on_exception(self, _loop: Any, context: dict[str, Any]) -> None:
        # Many tests close a connection while the test's server accepts it.
        if "transport creation" not in context["message"]:
            self._unhandled.append(f"{context['message']}: {context.get('exception')!r}")

    def _assert_nothing_unhandled(self) -> None:
        gc.collect()  # tasks and futures complain at their end
        self.assertEqual(self._unhandled, [])

    def connect(self, address: str, **settings: Any) -> farcall.Client:
        """Creates a client that is closed at the end of the test."""
        client = farcall.connect(address, **settings)

        async def abort() -> None:
            client.abort()

        self.addAsyncCleanup(abort)
        return client

    async def assert_fails(
        self, call: Awaitable[Any], kind: type[farcall.FarcallError], *executions: str
    ) -> Any:
        """Returns the error with which a call fails.

        Several executions are given if a race decides between correct outcomes.
        """
        with self.assertRaises(kind) as caught:
            await call
        self.assertIn(caught.exception.execution, executions, caught.exception)
        return caught.exception

    def stop_deadline_clock(self) -> types.SimpleNamespace:
        """Stops the clock of all deadlines until the test ends; ``now`` of the result moves it.

        A pause of the process then takes nothing from the time of a call.
        """
        clock = types.SimpleNamespace(now=1000.0)
        patch = mock.patch("farcall.deadline.monotonic", lambda: clock.now)
        patch.start()
        self.addCleanup(patch.stop)
        return clock


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true."""
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the condition did not become true in time")
        await asyncio.sleep(0.002)


class Peer:
    """The server's end of a connection."""

    def __init__(self, stream: FrameStream, codec: str):
        self.stream = stream
        self.codec = codec_named(codec)
        self.option: dict[str, Any] = {}
        #: All received headers, in order.
        self.received: list[Header] = []

    async def next(self, kind: str = "request") -> tuple[Header, Any]:
        """Reads the next message, which must be of this kind, and its value."""
        data, body = await self.stream.read_message()
        header = self.codec.decode_header(data)
        self.received.append(header)
        if header.kind != kind:
            raise AssertionError(f"a {kind} was expected, and not {header}")
        return header, self.codec.decode(body) if body else None

    def send(self, header: Header, *value: Any) -> None:
        """Sends a message, with a value or an empty body."""
        body = self.codec.encode(*value) if value else b""
        self.stream.write(frame(self.codec.encode_header(header)) + frame(body))

    def answer(self, seq: int, value: Any) -> None:
        self.send(Header("response", seq), value)

    def fail(self, seq: int, code: str, execution: str) -> None:
        self.send(Header("response", seq, error=WireError(code, "on purpose", execution)))

    def write(self, *payloads: bytes) -> None:
        """Sends frames of these bytes."""
        self.stream.write(b"".join(map(frame, payloads)))

    async def ended(self) -> bool:
        """Waits for the end of the stream; returns True if nothing came before it."""
        try:
            await self.stream.read_frame()
        except EndOfStream as end:
            return end.clean
        except ConnectionError:
            return True
        return False


Script = Callable[[Peer], Awaitable[None]]


class FakeServer:
    """Runs a script on each connection, after the handshake."""

    def __init__(self, scripts: tuple[Script, ...], codec: str, terms: dict[str, Any]):
        self._scripts = scripts
        self._codec = codec
        self._terms = terms
        self.connections = 0
        self.options: list[dict[str, Any]] = []
        #: The exceptions of the scripts.
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls,
        case: AsyncCase,
        *scripts: Script,
        codec: str = "json",
        port: int = 0,
        opening: Callable[..., Awaitable[bytes]] | None = None,
        ssl: Any = None,
        **terms: Any,
    ) -> FakeServer:
        """Starts a server.  Each connection gets the next script; the last script repeats."""
        self = cls(scripts, codec, terms)
        self._opening = opening
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"tcp@127.0.0.1:{self.port}"
        case.addAsyncCleanup(self.stop)
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        peer = Peer(FrameStream(reader, writer), self._codec)
        try:
            if self._opening is not None:
                await self._opening(reader, writer)
            option = JsonCodec().decode(await peer.stream.read_frame())
            self.options.append(option)
            peer.option = option
            accepted = {k: option[k] for k in ("magic_number", "version", "codec_type")}
            peer.write(JsonCodec().encode({**accepted, **self._terms}))
            await script(peer)
        except (EndOfStream, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """Stops listening, cuts all connections, and raises the exceptions of scripts."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        failures, self.failures = self.failures, []
        for failure in failures:
            raise failure


async def silent(peer: Peer) -> None:
    """Reads without answering."""
    while True:
        await peer.stream.read_message()


async def echoing(peer: Peer) -> None:
    """Answers each request with its arguments."""
    while True:
        data, body = await peer.stream.read_message()
        header = peer.codec.decode_header(data)
        peer.received.append(header)
        if header.kind == "request":
            peer.answer(header.seq, peer.codec.decode(body))
        if header.kind == "goaway":
            return


class Demo:
    """The server of the demo, as a separate process."""

    #: The program; `cargo build -p demo` makes it.
    program = os.environ.get("FARCALL_DEMO", str(REPOSITORY / "target/debug/demo"))

    def __init__(self, *options: str):
        self.process = subprocess.Popen(
            [self.program, "server", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        places = sum(option in ("--listen", "--http", "--https") for option in options)
        lines = [self.process.stdout.readline() for _ in range(places)]
        if not all(line.startswith("listening ") for line in lines):
            self.stop()
            raise AssertionError(f"the demo printed {lines}")
        #: The addresses in the order of the options, but HTTP last.
        self.addresses = [line.split()[1].replace("://", "@") for line in lines]

    def stop(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Certificates:
    """An authority, and certificates that it signed, made by the program openssl."""

    def __init__(self, directory: Path):
        self._directory = directory
        may = ("-addext", "keyUsage=critical,keyCertSign")
        self._run("req", "-x509", *self._new("ca"), "-subj", "/CN=test authority", *may)

    def __getitem__(self, name: str) -> str:
        """Returns the path of a file, such as ``ca.pem``."""
        return str(self._directory / name)

    def sign(self, name: str, *names: str) -> None:
        """Creates ``name.pem`` and ``name.key``, for hosts such as ``DNS:localhost``."""
        self._run("req", *self._new(name, "csr"), "-subj", f"/CN={name}")
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            f"subjectAltName={','.join(names)}\n"
        )
        signer = ("-CA", self["ca.pem"], "-CAkey", self["ca.key"], "-CAcreateserial")
        files = ("-in", self[f"{name}.csr"], "-out", self[f"{name}.pem"])
        self._run("x509", "-req", *files, *signer, "-extfile", str(extensions))

    def _new(self, name: str, ending: str = "pem") -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*curve, "-keyout", self[f"{name}.key"], "-out", self[f"{name}.{ending}"])

    def _run(self, *command: str) -> None:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
