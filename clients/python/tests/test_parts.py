"""Tests without a connection: addresses, errors, settings, slots, backoff, deadlines."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import unittest

from support import PACKAGE, AsyncCase

import farcall
from farcall.address import Address
from farcall.backoff import Backoff
from farcall.codec import codec_named
from farcall.deadline import Deadline, within
from farcall.errors import safe_text
from farcall.slots import Slots


class AddressTest(unittest.TestCase):
    def test_valid_addresses(self):
        for text, expected in (
            ("127.0.0.1:1", Address("tcp", "127.0.0.1", 1)),
            ("tcp@localhost:7001", Address("tcp", "localhost", 7001)),
            ("tls@[::1]:7001", Address("tls", "::1", 7001)),
            ("http@shop.example:65535", Address("http", "shop.example", 65535)),
            ("unix@/a@b", Address("unix", path="/a@b")),
        ):
            address = Address.parse(text)
            self.assertEqual(address, expected)
            self.assertEqual(Address.parse(str(address)), address)
        self.assertEqual(Address.parse("tls@[::1]:7001").authority, "[::1]:7001")

    def test_invalid_addresses_are_named(self):
        for text, named in (
            ("", "no port"),
            ("tcp@", "no port"),
            ("tcp@host", "no port"),
            ("tcp@:1", "no host"),
            ("tcp@host:x", "'x' is no number"),
            ("tcp@host:0", "'0' is no number"),
            ("tcp@host:65536", "'65536' is no number"),
            ("tcp@host:" + "9" * 5000, "is no number"),
            ("::1:7001", "brackets"),
            ("[::g]:7001", "no IPv6 address"),
            ("gopher@host:70", "'gopher' is none of tcp"),
            ("ws@host:70", "'ws' is none of tcp"),
            ("unix@", "path"),
            ("http://host:70", "a URL; an address is written 'http@host:70'"),
            ("https://u:p@host/x?y", "'https@host:443'"),
            ("TCP://host:70", "'tcp@host:70'"),
            ("tcp://[::1]", r"'tcp@\[::1\]:port'"),
            ("tcp@http://host:70", "'http@host:70'"),
            ("unix:///run/a", "'unix@/run/a'"),
            ("grpc://host:70", "'scheme@host:70'"),
            ("tcp:host:70", "'tcp@host:70'"),
            ("a:b:70", "no name of a host"),
            ("http@a\r\nX:70", "no name of a host"),
            ("http@a/b:70", "no name of a host"),
        ):
            with self.subTest(text=text[:40]), self.assertRaisesRegex(ValueError, named):
                Address.parse(text)
        with self.assertRaises(TypeError):
            Address.parse(b"tcp@host:1")


class ErrorTest(unittest.TestCase):
    def test_text_of_a_peer_is_cut_and_escaped(self):
        self.assertEqual(safe_text("a\n\x1b[31m\u202e"), "a\\n\\x1b[31m\\u202e")
        self.assertEqual(len(safe_text("x" * 5000)), 1024)
        self.assertEqual(safe_text("\ud800"), "\\ud800")
        error = farcall.Unavailable("a\x1bb" + "x" * 5000, "maybe")
        for text in (str(error), repr(error)):
            self.assertNotIn("\x1b", text)
            self.assertLess(len(text), 1100)
        self.assertIn("\x1b", error.message)

    def test_long_names_leave_room_for_what_is_said_of_them(self):
        long = "x" * 100_000
        error = farcall.Unavailable("it is gone", "maybe")
        error.method = long
        self.assertEqual(str(error), f"{'x' * 128}…: it is gone (unavailable, maybe)")
        client = farcall.connect("tcp@127.0.0.1:1")
        faults = [str(error), repr(client.service(long)), repr(farcall.connect(f"unix@/{long}"))]
        for address in (long, f"{long}@h:1", f"h:{'9' * 100_000}", f"[{long}]:1", f"{long} :1", f"http://{long}"):
            with self.assertRaises(ValueError) as caught:
                farcall.connect(address)
            faults.append(str(caught.exception))
        for metadata in ({long.upper(): ""}, {long: 1}, {(long,): ""}):
            with self.assertRaises((ValueError, TypeError)) as caught:
                farcall.settings.checked_metadata(metadata)
            faults.append(str(caught.exception))
        with self.assertRaises(ValueError) as caught:
            codec_named(long)
        faults.append(str(caught.exception))
        for fault in faults:
            self.assertLess(len(fault), 500)
        # The reason stands behind the name, also where the connection fails.
        with self.assertRaises(farcall.Unavailable) as caught:
            asyncio.run(self._call(f"unix@/{long}", long))
        self.assertRegex(str(caught.exception), "too long.*not_sent")

    async def _call(self, address, method):
        async with farcall.connect(address) as client:
            await client.call(method)

    def test_text_has_method_message_code_and_execution(self):
        error = farcall.ApplicationError("division by zero", "done", details={"a": 1})
        error.method = "Arith.divide"
        self.assertEqual(str(error), "Arith.divide: division by zero (application, done)")
        self.assertIsInstance(error, farcall.FarcallError)

    def test_it_can_be_copied_and_sent_to_another_process(self):
        error = farcall.Unavailable("x", "maybe", [1], {"k": "v"})
        error.method = "A.b"
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            self.assertEqual((type(again), vars(again)), (type(error), vars(error)))

    def test_retry_after(self):
        for value, expected in (
            ("1500", 1.5),
            ("", None),
            ("-1", None),
            ("x", None),
            ("9" * 99, None),
        ):
            error = farcall.Unavailable("", metadata={"farcall-retry-after-ms": value})
            self.assertEqual(error.retry_after, expected)
        self.assertIsNone(farcall.Unavailable("").retry_after)


class SettingsTest(unittest.TestCase):
    def test_invalid_settings_are_refused_at_once(self):
        nan = float("nan")
        for setting, value, kind in (
            ("codec", "xml", ValueError),
            ("token", 5, TypeError),
            ("tls", "ca.pem", TypeError),
            ("timeout", "1", TypeError),
            ("timeout", nan, ValueError),
            ("timeout", True, TypeError),
            ("connect_timeout", 0, ValueError),
            ("connect_timeout", None, ValueError),
            ("handle_timeout", -1, ValueError),
            ("ping_after", 0, ValueError),
            ("ping_timeout", "5", TypeError),
            ("max_frame_bytes", 0, ValueError),
            ("max_frame_bytes", 2**32, ValueError),
            ("max_frame_bytes", 1.5, TypeError),
            ("max_waiting", 0, ValueError),
        ):
            with self.subTest(setting=setting, value=value), self.assertRaisesRegex(kind, setting):
                farcall.connect("tcp@127.0.0.1:1", **{setting: value})

    def test_tls_files_are_checked_at_once_and_named(self):
        for tls, named in (
            (farcall.Tls(ca_file="/no/such/file"), "/no/such/file"),
            (farcall.Tls(ca_file=__file__), "test_parts.py"),
            (farcall.Tls(cert_file="/no/such/file"), "/no/such/file"),
            (farcall.Tls(cert_file=__file__), "test_parts.py"),
            (farcall.Tls(key_file=__file__), "without cert_file"),
        ):
            with self.assertRaisesRegex(ValueError, named):
                farcall.connect("tls@127.0.0.1:1", tls=tls)

    def test_a_token_is_not_shown(self):
        client = farcall.connect("tcp@127.0.0.1:1", token="q8mXe01rHsZ9")
        self.assertNotIn("q8mX", repr(client) + repr(client._settings))

    def test_without_msgpack_json_works_and_msgpack_says_what_to_install(self):
        code = (
            "import sys; sys.modules['msgpack'] = None\n"
            "import farcall\n"
            "farcall.connect('tcp@127.0.0.1:1')\n"
            "try: farcall.connect('tcp@127.0.0.1:1', codec='msgpack')\n"
            "except ImportError as error: print(error)\n"
        )
        environment = {"PYTHONPATH": str(PACKAGE / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        self.assertIn('pip install "farcall[msgpack]"', done.stdout, done.stderr)

    def test_only_the_standard_library_is_imported(self):
        code = "import sys, farcall.__main__; print('msgpack' in sys.modules)"
        environment = {"PYTHONPATH": str(PACKAGE / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        self.assertEqual(done.stdout, "False\n", done.stderr)


class ValueTest(unittest.TestCase):
    def test_what_json_would_change_is_refused(self):
        codec = codec_named("json")
        inner = float("inf")
        for value in (
            {"a": float("nan")},
            [1.5, inner],
            {None: 1},
            {"a": [{(1, 2): 1}]},
            {1: "a", "1": "b"},
            {True: 1, "true": 2},
            {b"a": 1},
            {float("nan"): 1},
            {"a": "\ud800"},
            {"a": {1}},
            {"a": object()},
        ):
            with self.subTest(value=value), self.assertRaises((ValueError, TypeError, OverflowError)):
                codec.encode(value)

    def test_integers_beyond_64_bits_are_sent_as_text(self):
        codec = codec_named("json")
        for value, text in (
            ({"n": (1 << 64) - 1}, b'{"n":18446744073709551615}'),
            ({"n": -(1 << 63)}, b'{"n":-9223372036854775808}'),
            ({"n": str(1 << 64)}, b'{"n":"18446744073709551616"}'),
            ({"t": "1" * 30, "n": 1e25}, b'{"t":"%s","n":1e+25}' % (b"1" * 30)),
            ({7: True, "x": None}, b'{"7":true,"x":null}'),
        ):
            self.assertEqual(codec.encode(value), text)
        for value in ({"n": 1 << 64}, [(-(1 << 63) - 1,)], 1 << 100):
            with self.assertRaisesRegex(OverflowError, "sent as text"):
                codec.encode(value)

    def test_names_of_the_language_are_no_methods(self):
        service = farcall.connect("tcp@127.0.0.1:1").service("Arith")
        for name in ("__len__", "__iter__", "__await__", "__index__", "_repr_html_", "__deepcopy__"):
            self.assertFalse(hasattr(service, name), name)
        self.assertEqual(repr(service), "<farcall service Arith at tcp@127.0.0.1:1>")
        self.assertEqual(f"{service}", repr(service))
        self.assertNotEqual(service, 1)

    def test_a_client_is_not_copied(self):
        client = farcall.connect("tcp@127.0.0.1:1")
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with self.assertRaisesRegex(TypeError, "cannot be copied"):
                attempt(client)
            if attempt is not copy.copy:
                with self.assertRaisesRegex(TypeError, "cannot be copied"):
                    attempt(client.service("Arith"))


class BackoffTest(unittest.TestCase):
    def setUp(self):
        self.now = 1000.0
        self.backoff = Backoff(lambda: self.now)

    def test_pauses_grow_from_a_second_to_two_minutes(self):
        self.assertEqual(self.backoff.pause, 0)
        for expected in (1, 1.6, 2.56, 4.096):
            self.backoff.dial_failed()
            self.assertTrue(0.79 * expected <= self.backoff.pause <= 1.21 * expected)
        for _ in range(5000):
            self.backoff.dial_failed()
        self.assertTrue(96 <= self.backoff.pause <= 144)
        self.now += 145
        self.assertEqual(self.backoff.pause, 0)

    def test_no_pause_after_a_healthy_connection(self):
        for _ in range(5):
            self.backoff.dial_failed()
        self.now += 100
        self.backoff.connection_ended(lasted=60)
        self.assertEqual(self.backoff.pause, 0)

    def test_pause_after_two_short_connections(self):
        self.backoff.connection_ended(lasted=0.1)
        self.assertEqual(self.backoff.pause, 0)
        self.backoff.connection_ended(lasted=0.1)
        self.assertGreater(self.backoff.pause, 0)


class SlotsTest(AsyncCase):
    async def waiting(self, slots: Slots, count: int) -> list:
        tasks = [asyncio.ensure_future(slots.acquire(Deadline(None))) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks

    async def test_first_come_first_served(self):
        slots = Slots(1, max_waiting=10)
        await slots.acquire(Deadline(None))
        first, second = await self.waiting(slots, 2)
        slots.release()
        late = asyncio.ensure_future(slots.acquire(Deadline(None)))
        await first
        self.assertFalse(second.done() or late.done())
        slots.release()
        await second
        slots.release()
        await late

    async def test_cancelled_waiter_keeps_no_slot(self):
        slots = Slots(1, max_waiting=10)
        await slots.acquire(Deadline(None))
        gone, given, last = await self.waiting(slots, 3)
        gone.cancel()
        await asyncio.wait({gone})
        slots.release()
        given.cancel()  # in the moment in which it got the place
        await asyncio.wait({given})
        self.assertTrue(gone.cancelled() and given.cancelled())
        await last

    async def test_waiting_ends_at_the_deadline(self):
        slots = Slots(1, max_waiting=10)
        await slots.acquire(Deadline(None))
        await self.assert_fails(slots.acquire(Deadline(0.01)), farcall.DeadlineExceeded, "not_sent")
        slots.release()
        await slots.acquire(Deadline(None))

    async def test_waiting_callers_are_bounded(self):
        slots = Slots(1, max_waiting=2)
        await slots.acquire(Deadline(None))
        tasks = await self.waiting(slots, 2)
        one_more = slots.acquire(Deadline(None))
        await self.assert_fails(one_more, farcall.ResourceExhausted, "not_sent")
        slots.close("the end")
        for task in tasks:
            error = await self.assert_fails(task, farcall.Unavailable, "not_sent")
            self.assertEqual(error.message, "the end")
        await self.assert_fails(slots.acquire(Deadline(None)), farcall.Unavailable, "not_sent")


class DeadlineTest(AsyncCase):
    async def test_remaining_time_is_rounded_up(self):
        clock = self.stop_deadline_clock()
        self.assertEqual(Deadline(None).timeout_ms(), 0)
        deadline = Deadline(1)
        self.assertEqual(deadline.timeout_ms(), 1000)
        clock.now += 0.0105
        self.assertEqual(deadline.timeout_ms(), 990)
        self.assertEqual(Deadline(1e300).timeout_ms(), 2**53 - 1)
        for timeout in (0.0005, 0, -1):
            with self.assertRaises(farcall.DeadlineExceeded):
                Deadline(timeout).timeout_ms()

    async def test_late_work_is_cancelled(self):
        cancelled = asyncio.Event()

        async def work():
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.set()

        with self.assertRaises(asyncio.TimeoutError):
            await within(0.01, work())
        self.assertTrue(cancelled.is_set())
        self.assertEqual(await within(None, asyncio.sleep(0, 5)), 5)


if __name__ == "__main__":
    unittest.main()
