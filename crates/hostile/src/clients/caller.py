"""The client in Python: makes calls to ADDRESS for SECONDS, and prints what became of them as a line of JSON."""

import asyncio
import json
import sys
import time

import farcall

TIMEOUT = 1.0
CALLS = 8
PAUSE = 0.02


async def call(client):
    return await client.call("Arith.multiply", a=6, b=7, timeout=TIMEOUT)


async def stream(client):
    items = client.stream("Feed.count", {"from": 0, "to": 3}, timeout=TIMEOUT)
    async with items:
        await asyncio.sleep(TIMEOUT / 2)
        return await items.finish()


async def main(address, seconds):
    outcome = {"calls": 0, "answers": 0, "wrong": 0, "unexpected": None, "slowest_ms": 0}

    async def one(client, number):
        start = time.monotonic()
        try:
            answer = await (stream(client) if number == 0 else call(client))
            outcome["answers"] += 1
            outcome["wrong"] += answer != 42
        except farcall.FarcallError:
            pass
        except Exception as error:
            outcome["unexpected"] = f"{type(error).__name__}: {error}"[:200]
        outcome["calls"] += 1
        outcome["slowest_ms"] = max(outcome["slowest_ms"], (time.monotonic() - start) * 1e3)

    def unhandled(_loop, context):
        outcome["unexpected"] = f"unhandled: {context.get('message')}: {context.get('exception')!r}"[:200]

    asyncio.get_running_loop().set_exception_handler(unhandled)
    end = time.monotonic() + seconds
    # Connects at the first call: entering its block would fail if the server cannot be reached.
    client = farcall.connect(address)
    while time.monotonic() < end:
        await asyncio.gather(*(one(client, number) for number in range(CALLS)))
        await asyncio.sleep(PAUSE)
    await client.close()
    print(json.dumps(outcome))


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
