"""Runs every example of the README and of docs/CALLING.md against the demo's server."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import subprocess
import sys

from support import PACKAGE, REPOSITORY
from test_demo import DemoCase

import farcall

README = (PACKAGE / "README.md").read_text("utf-8")
CALLING = (REPOSITORY / "docs/CALLING.md").read_text("utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """Returns the code of all blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def expected_output(code: str) -> str:
    """Returns the output that the comments after `print` state; ` | ` is between several lines."""
    lines = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(lines) == code.count("print("), f"a print without its output in\n{code}"
    return "".join(f"{one}\n" for line in lines for one in line.split(" | "))


class ReadmeTest(DemoCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tokens = cls.directory / "tokens"
        tokens.write_text("web q8mXe01rHsZ9\n")
        authority = ("--tls-client-ca", cls.files["ca.pem"])
        safe = ("--listen", "tls@127.0.0.1:0", *authority, "--token-file", str(tokens))
        cls.plain = cls.demo("--listen", "tcp@127.0.0.1:0").addresses[0]
        cls.safe = cls.demo(*safe, *cls.with_tls()).addresses[0]
        cls.environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}

    def here(self, code: str) -> str:
        """Replaces the addresses and paths with those of these tests."""
        for written, real in (
            ("tcp@127.0.0.1:7001", self.plain),
            ("tls@127.0.0.1:7443", self.safe),
            ("/etc/shop/", f"{self.directory}/"),
            ("python3 ", f"{sys.executable} "),
        ):
            code = code.replace(written, real)
        return code

    async def test_programs_and_their_insides(self):
        programs = [code for code in blocks("python") if "asyncio.run(" in code]
        programs += blocks("python", CALLING)
        insides = [code for code in blocks("python") if "asyncio.run(" not in code]
        self.assertGreaterEqual(len(programs), 2)
        self.assertGreaterEqual(len(insides), 6)
        for code in programs:
            command = [sys.executable, "-c", self.here(code)]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            self.assertEqual(done.stdout, expected_output(code), done.stderr)
        for code in insides:
            with self.subTest(code=code):
                self.assertEqual(await self.run_inside(self.here(code)), expected_output(code))

    async def run_inside(self, code: str) -> str:
        printed = io.StringIO()
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled = compile(code, "README.md", "exec", flags=flags, dont_inherit=True)
        async with self.connect(self.plain) as client:
            names = {"asyncio": asyncio, "farcall": farcall, "client": client}
            with contextlib.redirect_stdout(printed):
                running = eval(compiled, names)
                if inspect.iscoroutine(running):
                    await running
        return printed.getvalue()

    async def test_commands(self):
        ran = 0
        for block in blocks("console"):
            for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = example.partition("\n")
                if command.startswith("pip "):
                    continue
                done = subprocess.run(
                    self.here(command),
                    shell=True,
                    env=self.environment,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                self.assertEqual(done.stdout, expected)
                ran += 1
        self.assertGreaterEqual(ran, 2)

    async def test_tables_are_complete(self):
        for error in vars(farcall.errors).values():
            if inspect.isclass(error) and error.__base__ is farcall.FarcallError:
                self.assertIn(f"| `{error.__name__}` | `{error.code}` |", README)
        for kind in ("stream", "upload", "exchange"):
            options = inspect.signature(getattr(farcall.Client, kind)).parameters.values()
            for option in options:
                if option.kind is inspect.Parameter.KEYWORD_ONLY:
                    self.assertIn(f"`{option.name}`", README)
        for option in inspect.signature(farcall.connect).parameters:
            self.assertIn(f"`{option}`", README.replace("address", "`address`"))
