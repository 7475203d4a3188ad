// Uses the generated client as users do; it is checked, not run.
import { connect } from "../../../../clients/javascript/farcall.js";
import { Shop, Text, type Criterion, type Goods } from "./shop";

export async function check(): Promise<string[]> {
  const client = connect("ws://127.0.0.1:1");
  const shop = new Shop(client);
  const goods: Goods = { id: "a", parts: [], data: new Uint8Array([1]) };
  await shop.order({ goods, count: 3 }, { timeout: 1000 });
  await shop.order({ goods });
  // @ts-expect-error: an argument is missing
  await shop.order({});
  const all: Criterion[] = ["All", { Id: "a" }, { Both: [1, "a"] }, { range: { from: 1 } }];
  // @ts-expect-error: there is no such variant
  const none: Criterion = "None";
  const found = await shop.find({ in: all[0] ?? none });
  const joined: string = await new Text(client).join(["a", "b"]);
  return [...Object.keys(found), joined];
}
