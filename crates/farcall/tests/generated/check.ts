// Uses the generated client as users do: it is checked, and run in a browser.
import { connect, FarcallError } from "../../../../clients/javascript/farcall.js";
import { Feed, Shop, Text, type Criterion, type Goods, type Offer } from "./shop.js";

function equal(actual: unknown, expected: unknown): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

export async function check(url: string): Promise<string> {
  const client = connect(url);
  const shop = new Shop(client);
  const goods: Goods = { id: "a", parts: [], data: new Uint8Array([1]) };
  equal(await shop.order({ goods, count: 3 }, { timeout: 60_000 }), btoa("a3"));
  const left = async (call: Promise<unknown>): Promise<unknown> =>
    call.then(() => "no error", (error) => (error instanceof FarcallError ? error.details : error));
  equal(await left(shop.order({ goods })), { left: 5 });
  const all: Criterion[] = ["All", { Id: "a" }, { Both: [1, "a"] }, { range: { from: 1 } }];
  equal(Object.keys(await shop.find({ in: all[3] ?? "All" })), ["range"]);
  const joined: string = await new Text(client).join(["a", "b"]);
  equal(joined, "ab");
  await checkStreams(new Feed(client), goods);
  await checkClosures(new Text(client));
  await client.close();
  return "fine";
}

async function checkStreams(feed: Feed, goods: Goods): Promise<void> {
  const list = feed.list({ from: 3, to: 5 }, { gap: 60_000 });
  const ids: string[] = [];
  for await (const item of list) ids.push(item.id);
  equal(ids, ["3", "4"]);
  const sent: number = await list.result;
  equal(sent, 2);
  const stored: string[] = await feed.store({ label: "s" }).sendAll([goods, goods]);
  equal(stored, ["sa", "sa"]);
  const failed = feed.store({ label: "" }).sendAll([{ ...goods, id: "" }]);
  equal(await failed.catch((error) => error.details), { left: 5 });
  const trade = feed.trade({ items: 9 });
  await trade.send({ Id: "b" });
  const both = trade.finish();
  const offers: Offer[] = [];
  for await (const offer of trade) offers.push(offer);
  equal(offers.map((offer) => [offer.goods?.id, offer.price]), [["b", 9]]);
  equal(await both, 1);
  const refused = feed.trade({ items: 9 }).sendAll([{ Both: [1, "b"] }]);
  equal(await refused.catch((error) => error.code), "invalid_argument");
  const chunks = feed.chunks();
  const end = chunks.sendAll([new Uint8Array([97])]);
  for await (const chunk of chunks) equal(chunk, "YQ==");
  equal(await end, null);
}

async function checkClosures(text: Text): Promise<void> {
  const prices = [];
  for await (const offer of text.offers([1, 2])) prices.push(offer.price);
  equal(prices, [1, 2]);
  equal(await text.total(null).sendAll([{ goods: null, price: 7 }]), 7);
}

/** It is compiled alone: each error is the expected one. */
export function misuse(feed: Feed, shop: Shop, goods: Goods): void {
  // @ts-expect-error: an argument is missing
  void shop.order({});
  // @ts-expect-error: there is no such variant
  const none: Criterion = "None";
  // @ts-expect-error: it takes goods
  void feed.store({ label: "" }).send(none);
  // @ts-expect-error: it takes no items
  void feed.list({ from: 1 }).send(goods);
}
