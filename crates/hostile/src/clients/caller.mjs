// The client in JavaScript: makes calls to ADDRESS for SECONDS, and prints what became of them as a line of JSON.

const TIMEOUT = 1000;
const CALLS = 8;
const PAUSE = 20;

const [library, address, seconds] = process.argv.slice(2);
const { connect, FarcallError } = await import(library);
const outcome = { calls: 0, answers: 0, wrong: 0, unexpected: null, slowest_ms: 0 };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

for (const event of ["uncaughtException", "unhandledRejection"]) {
  process.on(event, (error) => (outcome.unexpected = `${event}: ${error}`.slice(0, 200)));
}

async function stream(client) {
  const items = client.stream("Feed.count", { from: 0, to: 3 }, { timeout: TIMEOUT });
  await pause(TIMEOUT / 2);
  return await items.result;
}

async function one(client, number) {
  const start = performance.now();
  try {
    const call = number === 0 ? stream(client) : client.call("Arith.multiply", { a: 6, b: 7 }, { timeout: TIMEOUT });
    const answer = await call;
    outcome.answers += 1;
    outcome.wrong += answer !== 42 ? 1 : 0;
  } catch (error) {
    if (!(error instanceof FarcallError)) outcome.unexpected = String(error).slice(0, 200);
  }
  outcome.calls += 1;
  outcome.slowest_ms = Math.max(outcome.slowest_ms, performance.now() - start);
}

const end = performance.now() + Number(seconds) * 1000;
const client = connect(address);
while (performance.now() < end) {
  await Promise.all(Array.from({ length: CALLS }, (_, number) => one(client, number)));
  await pause(PAUSE);
}
await Promise.race([client.close(), pause(2 * TIMEOUT)]);
console.log(JSON.stringify(outcome));
process.exit(0);
