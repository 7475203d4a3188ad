"""Calls a server by its generated client, and prints `fine`."""

import asyncio
import sys
from typing import List

import farcall
from shop import Criterion, Feed, Goods, Offer, Shop, Text, Tree


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
        assert await Text(client).join(["a", "b"], timeout=60) == "ab"
        await check_streams(Feed(client), goods)
        await check_closures(Text(client))
    print("fine")


async def check_streams(feed: Feed, goods: Goods) -> None:
    listed = feed.list(3, 5, gap=60)
    ids: List[str] = [item["id"] async for item in listed]
    assert ids == ["3", "4"], ids
    sent: int = await listed.finish()
    assert sent == 2, sent
    async with feed.store("s") as store:
        assert await store.send(goods)
        stored: List[str] = await store.finish()
    assert stored == ["sa"], stored
    try:
        async with feed.store("") as store:
            await store.send({"id": "", "parts": [], "data": b""})
            await store.finish()
        raise AssertionError("goods have an id")
    except farcall.ApplicationError as error:
        assert error.details == {"left": 5}, error
    async with feed.trade(9) as trade:
        wanted: Criterion = {"Id": "b"}
        await trade.send(wanted)
        offer: Offer = await trade.__anext__()
        assert offer["price"] == 9 and offer["goods"] is not None and offer["goods"]["id"] == "b", offer
        await trade.send({"Both": [1, "b"]})
        try:
            await trade.finish()
            raise AssertionError("it is refused")
        except farcall.InvalidArgument:
            pass
    async with feed.chunks() as chunks:
        await chunks.send(b"abc")
        chunks.end()
        assert [chunk async for chunk in chunks] == [b"abc"]
        await chunks.finish()


async def check_closures(text: Text) -> None:
    assert [offer["price"] async for offer in text.offers([1, 2])] == [1, 2]
    async with text.total(None) as total:
        await total.send({"goods": None, "price": 7})
        assert await total.finish() == 7


async def misuse(feed: Feed, goods: Goods) -> None:
    """Is not run: mypy expects each of the errors."""
    await feed.store("").send("text")  # type: ignore[arg-type]
    await feed.list(1).send(goods)  # type: ignore[attr-defined]


asyncio.run(main(sys.argv[1]))
