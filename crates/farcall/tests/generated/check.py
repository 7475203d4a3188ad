"""Calls a server by its generated client, and prints `fine`."""

import asyncio
import sys

import farcall
from shop import Goods, Shop, Text, Tree


async def main(address: str) -> None:
    async with farcall.connect(address, codec="msgpack") as client:
        shop = Shop(client)
        goods: Goods = {"id": "a", "parts": [], "data": b"x"}
        assert await shop.order(goods, 3) == b"a3"
        try:
            await shop.order(goods)
            raise AssertionError("it is sold out")
        except farcall.ApplicationError as error:
            assert error.details == {"left": 5}, error
        found = await shop.find({"range": {"from": 1}})
        assert found == {"range": [{"id": "a", "type": 7, "parts": [], "data": b"x"}]}, found
        assert await shop.find("All") == {}
        tree: Tree = {"left": {"value": 1}, "value": 2}
        assert await shop.echo(tree, [5, "x"]) == [{"left": {"left": None, "value": 1}, "value": 2}, 5]
        assert await shop.price([5, "five"]) == 5
        assert await shop.colors({"light-blue": 0.5}) == ["light-blue"]
        assert await Text(client).join(["a", "b"], timeout=10) == "ab"
    print("fine")


asyncio.run(main(sys.argv[1]))
