"""``python3 -m farcall tcp@127.0.0.1:7001 Arith.multiply '{"a": 6, "b": 7}'``"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

import farcall

parser = argparse.ArgumentParser(
    prog="farcall-python",
    description="Calls a method, and prints its result as JSON.",
    epilog="The environment variable FARCALL_TOKEN contains the token, if the server requires one.",
)
parser.add_argument("address", help="tcp@host:port, tls@host:port, unix@/path, ...")
parser.add_argument("method", nargs="?", help="default: lists the methods")
parser.add_argument("args", nargs="?", help="the arguments as JSON, an object or an array")
parser.add_argument("--timeout", type=float, metavar="SECONDS")
parser.add_argument("--ca-file", metavar="FILE", help="trusts only the authorities in this file")
parser.add_argument("--cert-file", metavar="FILE", help="the client's certificate")
parser.add_argument("--key-file", metavar="FILE", help="the key of the certificate")


async def call(options: argparse.Namespace, args: Any) -> str:
    """Makes the call, and returns the text to print."""
    tls = farcall.Tls(options.ca_file, options.cert_file, options.key_file)
    token = os.environ.get("FARCALL_TOKEN")
    async with farcall.connect(options.address, token=token, tls=tls) as client:
        if options.method is None:
            return json.dumps(await client.services(timeout=options.timeout), indent=2)
        return json.dumps(await client.call(options.method, args, timeout=options.timeout))


def main() -> None:
    """Exits with 1 if the call fails, and with 2 if the arguments are invalid."""
    options = parser.parse_args()
    try:
        args = None if options.args is None else json.loads(options.args)
    except ValueError as error:
        parser.error(f"the arguments are not JSON: {error}")
    try:
        print(asyncio.run(call(options, args)))
    except farcall.FarcallError as error:
        sys.exit(f"{error}" if error.details is None else f"{error}\n{json.dumps(error.details)}")
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
