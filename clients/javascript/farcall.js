/**
 * A client of farcall servers, for browsers and other runtimes with WebSockets. It consists of this file, without
 * dependencies and without a build step.
 *
 * It speaks version 1 of the wire protocol (docs/PROTOCOL.md, whose sections the comments name) in JSON, over
 * the binary messages of a WebSocket, with streams and without compression.
 *
 * @module farcall
 */

const MAGIC_NUMBER = 0xcafebabe;
const VERSION = 1;
const CODEC = "application/json";

const MAX_OPTION_BYTES = 4 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_NAME_LENGTH = 128; // Of a name or an address in messages.
const MAX_TEXT_BYTES = 1024; // The limit of a peer's text in output: section 11.4.
const DEFAULT_MAX_FRAME_BYTES = 4 * 1024 * 1024;
const DEFAULT_MAX_IN_FLIGHT = 1024;
const DEFAULT_MAX_STREAMS = 256;
/** The window of a side that states none: section 3.2. */
const DEFAULT_STREAM_WINDOW = 64 * 1024;
/** The largest window that is of use to a sender. */
const MAX_STREAM_WINDOW = 2 ** 30;

/** The size limit of a WebSocket message: servers refuse large ones, and some hold each whole. */
const MAX_MESSAGE_BYTES = 64 * 1024;
/** The number of unsent bytes in the socket above which further calls wait. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
/** The interval of checking the unsent bytes. */
const BUFFERED_TICK_MS = 10;
/** The unsent bytes in the socket above which items wait, so that nothing else waits for more: section 18.6. */
const MAX_BUFFERED_ITEMS = 128 * 1024;
/** The bytes of items that a stream may send in each of its turns: section 18.6. */
const ITEM_QUANTUM = 16 * 1024;
/** The cost of an item in addition to the bytes of its body: section 18.3. */
const ITEM_OVERHEAD = 64;
/** The cost of the items of one stream that have credit and wait for their turn, before one item more. */
const MAX_QUEUED_ITEMS = 64 * 1024;
/** The cost of the items of one stream that wait for credit, before one item more. */
const MAX_WAITING_ITEMS = 1024 * 1024;
/** The cost of the sent items that are kept until the server shows that it runs the call, to send them again. */
const MAX_KEPT_ITEMS = 64 * 1024;
/** The time without a starved item after which a window that has grown is halved: section 18.3. */
const SHRINK_AFTER_MS = 10_000;
/** The size beyond which a window grows only while that helps. */
const UNCONDITIONAL_SIZE = 1024 * 1024;
/** Shorter delays of a path, there and back, count as this one. */
const MIN_DELAY_MS = 0.5;
/** The most pairs of metadata: section 10. */
const MAX_METADATA_PAIRS = 1024;
/** The number of tries that count before a call fails. */
const MAX_TRIES = 3;
/**
 * The number of goaways that count as no tries of one call. Each connection refuses a request that takes longer to arrive
 * than a connection lasts, and its call must end.
 */
const MAX_GOAWAYS = 20;
/** The longest time in milliseconds that a server may ask to wait for before another try. */
const MAX_RETRY_AFTER_MS = 30_000;
/** The longest pause before the second try of a call, and before any; it is a random part of it, and doubles with each. */
const FIRST_RETRY_PAUSE_MS = 20;
const MAX_RETRY_PAUSE_MS = 1000;
/** The share of a client's calls that may be made again, and the tries in a second that always may, counted over a while. */
const RETRY_SHARE = 0.2;
const RETRY_FLOOR = 10;
const RETRY_WINDOW_MS = 10_000;
/** The time for which a call is repeated that is carried out once. Servers keep answers longer: section 10.1. */
const MAX_REPEAT_AGE_MS = 120_000;
/** The longest name of a server's store of keys; more is cut off. */
const MAX_STORE_LENGTH = 128;
const IDEMPOTENCY_KEY = "farcall-idempotency-key";
/** The codes of refusals that another try does not change. */
const FINAL_CODES = new Set(["invalid_argument", "unauthenticated", "permission_denied", "unimplemented"]);
/**
 * The uptime from which a connection counts as healthy: servers that close connections immediately are not dialed
 * again immediately.
 */
const MIN_HEALTHY_UPTIME_MS = 1000;
/** The pauses after failed dials: gRPC's connection backoff. */
const BACKOFF = { first: 1000, factor: 1.6, max: 120_000, jitter: 0.2 };
/** The number of pings that a server may send in each window: section 13. */
const MAX_PINGS = 10;
const PING_WINDOW_MS = 5000;
/** The lower bound of `pingAfter`, far below the rate that servers allow. */
const MIN_PING_AFTER_MS = 1000;
/** The `readyState` of an open WebSocket. */
const OPEN = 1;
/** The longest delay of a JavaScript timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The most calls in a row without an item with which a stream goes on. */
const MAX_FRUITLESS_CALLS = 10;
/** The pauses before them: the second, and the longest. */
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 5000;
/** The time for which a stream whose server drains waits for the first item of the next call. */
const MAX_FIRST_WAIT_MS = 1000;
/** An item that stands for none: the server drains. */
const DRAINS = Symbol("drains");

const FLAG_COMPRESSED = 1;
const FLAG_IDEMPOTENT = 4;
const FLAG_STREAMING = 8;
const FLAG_STARVED = 16;
const STREAMS = "streams";

const CODES = new Set([
  "cancelled", "deadline_exceeded", "invalid_argument", "unauthenticated", "unimplemented", "permission_denied",
  "resource_exhausted", "unavailable", "internal", "application",
]);
const EXECUTIONS = new Set(["done", "refused", "maybe"]);

const EMPTY = new Uint8Array(0);
const U64_MAX = 2n ** 64n - 1n;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const now = () => performance.now();

/**
 * The error of every failed call.
 *
 * `execution` says whether the method may have run: `done` (it ran to its end), `refused` (the
 * server never started it), `maybe` (its state is unknown), `not_sent` (the request never left this process).
 */
export class FarcallError extends Error {
  /**
   * @param {string} code a code of section 11.1, such as `deadline_exceeded`
   * @param {string} message the human-readable message
   * @param {string} execution `done`, `refused`, `maybe` or `not_sent`
   * @param {{details?: unknown, metadata?: Record<string, string>, cause?: unknown}} [more]
   */
  constructor(code, message, execution, { details, metadata = {}, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "FarcallError";
    /** The kind of failure. */
    this.code = code;
    /** States whether the method may have run. */
    this.execution = execution;
    /** The error that the method returned, if `code` is `application`; usually undefined otherwise. */
    this.details = details;
    /** The metadata of the response, such as `farcall-retry-after-ms`. */
    this.metadata = metadata;
  }
}

/**
 * Creates a client of the server at an address. It connects at the first call, and reconnects if the
 * connection is lost.
 *
 * @param {string | URL} address `ws://host:port` or `wss://host:port`, also written `ws@host:port`; `http` and
 *   `https` stand for these, so that a page calls its own server with `connect(location.origin)`.
 *   Default of the path: `/_farcall_`.
 * @param {import("./farcall.d.ts").ConnectOptions} [options]
 * @returns {Client}
 * @throws {TypeError} if the address or an option is invalid
 */
export function connect(address, options = {}) {
  return new Client(address, options);
}

/** Calls methods of one server over one connection at a time. {@link connect} creates it. */
export class Client {
  #url;
  #settings;
  /**
   * The calls that wait for a slot on a connection, in order, and those that stream, which have slots of their own.
   * Bounded by `maxWaiting`.
   */
  #waiting = new Set();
  #waitingStreams = new Set();
  /** The calls that are made again after a pause; they count among those that wait. */
  #resting = new Set();
  #budget = new RetryBudget();
  /** The connection for new calls, which may still be opening. */
  #connection = null;
  /** That connection, and those that finish their calls. */
  #connections = new Set();
  /** Consecutive connections that failed, or did not last. */
  #failures = 0;
  #lastError = null;
  #restsUntil = 0;
  #tick = null;
  #closing = null;
  #closed = () => {};

  constructor(address, options = {}) {
    this.#url = parseAddress(address);
    this.#settings = {
      token: options.token,
      timeout: checkTimeout(options.timeout),
      connectTimeout: whole(options.connectTimeout, 10_000, "connectTimeout"),
      maxFrameBytes: whole(options.maxFrameBytes, DEFAULT_MAX_FRAME_BYTES, "maxFrameBytes"),
      maxWaiting: whole(options.maxWaiting, 10_000, "maxWaiting"),
      pingAfter: whole(options.pingAfter, 10_000, "pingAfter", MIN_PING_AFTER_MS),
      pongTimeout: whole(options.pongTimeout, 5000, "pongTimeout"),
      streamWindow: whole(options.streamWindow, 256 * 1024, "streamWindow"),
      maxStreamWindow: whole(options.maxStreamWindow, 16 * 1024 * 1024, "maxStreamWindow"),
      maxStreamGrowth: whole(options.maxStreamGrowth, 64 * 1024 * 1024, "maxStreamGrowth", 0),
      streamStall: whole(options.streamStall, 60_000, "streamStall"),
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
    };
    if (!this.#settings.WebSocket) throw new TypeError("this runtime has no WebSocket: give one in the options");
  }

  /**
   * Calls a method, and returns its result.
   *
   * Integers beyond `Number.MAX_SAFE_INTEGER` are returned and sent as `bigint`, and beyond 64 bits as text. A
   * `Uint8Array` among the arguments is sent as bytes. A value that JSON would lose, such as a `Map`, `NaN` or a
   * function, fails the call with `invalid_argument`.
   *
   * @param {string} method such as `Arith.multiply`
   * @param {object | unknown[]} [args] the arguments by name, or in order
   * @param {import("./farcall.d.ts").CallOptions} [options]
   * @returns {Promise<any>}
   * @throws {FarcallError} if the call fails; see its `code` and `execution`
   */
  async call(method, args = {}, options = {}) {
    return this.#begin(new Call(method, args, options, this.#settings.timeout));
  }

  /**
   * Calls a method that sends or takes items, or both. The client's timeout applies to the time until the first item
   * or the result.
   *
   * @param {string} method such as `Files.read`
   * @param {object | unknown[]} [args] the arguments by name, or in order
   * @param {import("./farcall.d.ts").StreamOptions} [options]
   * @returns {Stream}
   * @throws {FarcallError} if the call cannot begin, such as for an invalid argument; later errors end the stream
   */
  stream(method, args = {}, options = {}) {
    const { resume, ...others } = options;
    if (resume === undefined) return new Stream(this.#open(method, args, others));
    if (typeof resume !== "function") {
      throw new FarcallError("invalid_argument", `${shownName(method)}: resume is a function from the last item`, "not_sent");
    }
    const open = (args, options) => {
      const call = this.#open(method, args, options);
      call.isResumable = true;
      // It sends no items, and a method that takes some must not wait for them.
      call.finish();
      return call;
    };
    const calls = new ResumedCalls(args, others, resume, open);
    return new Stream(calls.begin(), calls);
  }

  #open(method, args, options) {
    const call = new StreamCall(method, args, options, this.#settings);
    this.#begin(call);
    return call;
  }

  #begin(call) {
    if (this.#closing) throw new FarcallError("unavailable", `${call.label}: the client was closed`, "not_sent");
    call.checkGivenUp();
    this.#budget.deposit();
    const waiting = this.#waiting.size + this.#waitingStreams.size + this.#resting.size;
    if (waiting >= this.#settings.maxWaiting) {
      throw new FarcallError("resource_exhausted", `${call.label}: ${waiting} calls wait already`, "not_sent");
    }
    const result = call.start((error) => this.#giveUp(call, error));
    this.#queueOf(call).add(call);
    this.#pump();
    return result;
  }

  /**
   * Makes a call again that failed on its connection, perhaps after a pause, if that has no second effect and may help.
   * Returns false if not.
   *
   * @param {"answer" | "goaway" | "loss"} by what told of the failure: the server's answer, its goaway, which it sends
   *   before it begins the call, or the end of the connection
   */
  #retry(call, error, by) {
    const next = this.#closing || !call.isWhole ? null : call.nextTry(error, by);
    if (next === null || call.isLateAfter(next.pause)) return false;
    if (!next.isFree && !this.#budget.withdraw()) return false;
    call.connection = null;
    call.renew();
    const send = () => {
      this.#resting.delete(call);
      this.#queueOf(call).add(call);
      this.#pump();
    };
    if (next.isFree && next.pause === 0) {
      send();
    } else {
      this.#resting.add(call);
      call.rest(next.pause, send);
    }
    return true;
  }

  #queueOf(call) {
    return call instanceof StreamCall ? this.#waitingStreams : this.#waiting;
  }

  /**
   * Returns the methods of a service as functions: `client.service("Arith").multiply({ a: 6, b: 7 })`.
   *
   * Names that the language asks for by itself, such as `toString`, `toJSON` and `then`, are no methods of it, and
   * can be called with {@link Client.call}.
   *
   * @param {string} name
   * @returns {any} each function takes the arguments and the options of {@link Client.call}
   */
  service(name) {
    const functionOf = (target, method) =>
      isOfLanguage(method) ? target[method] : (args, options) => this.call(`${name}.${method}`, args, options);
    return new Proxy(Object.freeze({ [Symbol.toStringTag]: `farcall service ${shownName(name)}` }), { get: functionOf });
  }

  /** Returns the services of the server, with their methods, parameters and results. */
  services(options) {
    return this.call("farcall.services", {}, options);
  }

  /** Returns the status of the server, or of a service: `{ status: "serving" }` or `{ status: "draining" }`. */
  health(service, options) {
    return this.call("farcall.health", service === undefined ? {} : { service }, options);
  }

  /** Returns counts and latencies of each method, for the whole server. */
  stats(options) {
    return this.call("farcall.stats", {}, options);
  }

  /**
   * Accepts no more calls, fails those that were not sent yet, and waits for the answers to the others.
   *
   * @returns {Promise<void>} resolved when they are answered
   */
  close() {
    if (!this.#closing) {
      this.#closing = new Promise((resolve) => (this.#closed = resolve));
      const closed = new FarcallError("unavailable", "the client was closed", "not_sent");
      this.#failWaiting(closed);
      this.#failResting(closed);
      for (const connection of [...this.#connections]) connection.finish();
      if (this.#connections.size === 0) this.#closed();
    }
    return this.#closing;
  }

  /** For `await using client = connect(...)`. */
  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    return this.close();
  }

  /** Sends waiting calls while the connection has free slots. */
  #pump() {
    if (this.#waiting.size + this.#waitingStreams.size === 0) return;
    if (!this.#connection) return this.#dial();
    this.#sendFrom(this.#waiting, (connection) => connection.hasPlace);
    this.#sendFrom(this.#waitingStreams, (connection) => connection.hasStreamPlace);
  }

  #sendFrom(waiting, hasPlace) {
    for (const call of waiting) {
      if (!this.#connection || !hasPlace(this.#connection)) break;
      if (this.#connection.isFull) {
        // A WebSocket has no event for this.
        this.#tick ??= setTimeout(() => ((this.#tick = null), this.#pump()), BUFFERED_TICK_MS);
        break;
      }
      waiting.delete(call);
      this.#connection.send(call);
    }
  }

  #dial() {
    const rests = Math.ceil(this.#restsUntil - now());
    if (rests > 0) {
      // Fail at once, so that calls do not pile up while the server is unreachable.
      const { code, message, metadata } = this.#lastError;
      const again = `${message} (dialed again in ${rests} ms)`;
      return this.#failWaiting(new FarcallError(code, again, "not_sent", { metadata, cause: this.#lastError }));
    }
    const connection = new Connection(this.#url, this.#settings, {
      place: () => this.#pump(),
      leaving: (refused, why, lasted) => this.#leave(connection, refused, why, lasted),
      ended: (error, lasted) => this.#ended(connection, error, lasted),
      retry: (call, error, by) => this.#retry(call, error, by),
    });
    this.#connection = connection;
    this.#connections.add(connection);
  }

  /** Handles a connection that accepts no more calls: refused calls go to another connection. */
  #leave(connection, refused, why, lasted) {
    connection.wasLeft = true;
    if (this.#connection === connection) this.#connection = null;
    // A server that says goaway at once has served nobody, however long calls keep the connection.
    this.#rest(why, lasted);
    for (const call of refused) {
      if (!this.#retry(call, why, "goaway")) call.fail(why);
    }
    this.#pump();
  }

  /** @param {number} lasted milliseconds since the handshake; negative if there was none */
  #ended(connection, error, lasted) {
    this.#connections.delete(connection);
    if (this.#connection === connection) this.#connection = null;
    if (!connection.wasLeft) this.#rest(error, lasted);
    if (lasted < 0) this.#failWaiting(error);
    else this.#pump();
    if (this.#closing && this.#connections.size === 0) this.#closed();
  }

  /** Notes how long a connection took calls, and begins a pause before the next dial if that was short. */
  #rest(error, lasted) {
    this.#failures = lasted >= MIN_HEALTHY_UPTIME_MS ? 0 : this.#failures + 1;
    // The first retry after a healthy connection is made at once.
    if (lasted < 0 || this.#failures > 1) {
      this.#lastError = error;
      this.#restsUntil = now() + backoff(this.#failures);
    }
  }

  #failWaiting(error) {
    const waiting = [...this.#waiting, ...this.#waitingStreams];
    this.#waiting.clear();
    this.#waitingStreams.clear();
    for (const call of waiting) call.fail(error);
  }

  #failResting(error) {
    const resting = [...this.#resting];
    this.#resting.clear();
    for (const call of resting) call.fail(error);
  }

  /** Ends a call whose deadline has passed or whose caller gave up. */
  #giveUp(call, error) {
    if (call.connection) call.connection.cancel(call);
    this.#queueOf(call).delete(call);
    this.#resting.delete(call);
    call.fail(error);
  }
}

/**
 * A call whose method sends items, takes items, or both: {@link Client.stream} creates it.
 *
 * Iterating takes the items, and throws if the call fails or is cut, so that a loop that ends has seen all of them.
 * Leaving a loop early cancels the call, and so does disposing of the stream, or forgetting it, before it has ended.
 */
export class Stream {
  #call;
  /** The calls that it goes on with when one fails or its server drains; null if it ends then. */
  #calls;
  /** The change to another call that is under way, a promise of its success. */
  #changing = null;
  /** The call that stays although its server drains. */
  #stays = null;
  /** True once the caller takes no more items. */
  #isLeft = false;
  #result = null;

  /**
   * @param {StreamCall} call
   * @param {ResumedCalls | null} calls
   */
  constructor(call, calls = null) {
    this.#calls = calls;
    this.#use(call);
  }

  /** The final value of the method, a promise. It rejects if the call fails. */
  get result() {
    if (this.#calls) {
      this.#result ??= this.#lastResult();
      this.#result.catch(() => {});
      return this.#result;
    }
    // What is waited for is not forgotten.
    this.#call.owner = this;
    return this.#call.outcome;
  }

  /** True if the server drains: the stream goes on as long as the server lets it. */
  get isDraining() {
    return this.#call.isDraining;
  }

  /** A promise that is resolved when the server drains, or the call is over. */
  get draining() {
    return this.#call.draining;
  }

  /**
   * Sends an item. Wait for each before the next: no more than 1 MiB may wait.
   *
   * @param {unknown} item what JSON can carry, as the arguments of {@link Client.call}
   * @returns {Promise<boolean>} resolved when the server had granted credit for it; false if the server wants no more
   *   items, because it has answered or has said so, which is no error
   * @throws {FarcallError} if the call fails; or if the item is invalid or too large, and the call goes on
   */
  async send(item) {
    if (this.#calls) {
      const message = `${this.#call.label}: a stream with resume sends no items`;
      throw new FarcallError("invalid_argument", message, "not_sent");
    }
    return this.#call.send(item, this);
  }

  /**
   * Sends the items of an iterable, and then {@link Stream.finish}es. If the iterable throws, the call is cancelled, so
   * that a part is never taken for all.
   *
   * @param {Iterable<unknown> | AsyncIterable<unknown>} items
   * @returns {Promise<any>} the final value
   */
  sendAll(items) {
    const sent = this.#sendAll(items);
    // A caller that iterates is told of a failure there, perhaps before it waits for this.
    sent.catch(() => {});
    return sent;
  }

  async #sendAll(items) {
    try {
      for await (const item of items) {
        if (!(await this.send(item))) break;
      }
    } catch (error) {
      this.cancel(error);
      throw error;
    }
    return this.finish();
  }

  /** Says that no more items come, once those that wait are sent, and returns the final value, a promise. */
  finish() {
    this.#call.finish();
    return this.result;
  }

  /** Takes no more items: those that arrive are dropped, and the iteration ends. The call goes on. */
  stop() {
    this.#isLeft = true;
    this.#call.stop();
  }

  /** Cancels the call: the method is stopped on the server. Without effect on a call that has ended. */
  cancel(reason) {
    this.#leave("its caller cancelled it", reason);
  }

  /** Iterates over the items. All iterators share them. */
  [Symbol.asyncIterator]() {
    return {
      next: () => (this.#calls ? this.#next() : this.#call.next(this)),
      return: async (value) => {
        this.#leave("its caller left the loop over its items");
        return { value, done: true };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** For `await using stream = client.stream(...)`: cancels the call if it has not ended. */
  async [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    this.#leave("its caller left it");
  }

  #leave(why, cause) {
    this.#isLeft = true;
    this.#call.abandon(why, cause);
  }

  #use(call) {
    this.#call = call;
    forgotten?.register(this, call, call);
  }

  /** Returns the next item of a stream that goes on with other calls. */
  async #next() {
    for (;;) {
      while (this.#changing) await this.#changing;
      const call = this.#call;
      if (call.isDraining && call !== this.#stays && !call.isOver && !this.#isLeft) {
        await this.#change(() => this.#moveFrom(call));
        continue;
      }
      let item;
      try {
        item = await call.next(this);
        if (item === DRAINS) continue;
        // The error is thrown to one of several callers that wait.
        if (item.done && call.error && !this.#isLeft) throw call.error;
      } catch (error) {
        if (call !== this.#call) continue;
        if (await this.#change(() => this.#goOn(call, error))) continue;
        throw error;
      }
      if (!item.done) this.#calls.taken(item.value);
      return item;
    }
  }

  /** Returns the result of the last of the calls. */
  async #lastResult() {
    for (;;) {
      const call = this.#call;
      call.owner = this;
      try {
        return await call.outcome;
      } catch (error) {
        if (call === this.#call && !(await this.#change(() => this.#goOn(call, error)))) throw error;
      }
    }
  }

  /** Changes to another call, unless that is under way. */
  #change(change) {
    this.#changing ??= change().finally(() => (this.#changing = null));
    return this.#changing;
  }

  /** Goes on with another call after one that has failed. Returns false if that is final. */
  async #goOn(call, error) {
    const pause = error.code === "unavailable" && !this.#isLeft ? this.#calls.nextPause() : null;
    if (pause === null) return false;
    if (pause > 0) await sleep(pause);
    if (this.#isLeft) return false;
    let next;
    try {
      next = this.#calls.begin();
    } catch {
      return false;
    }
    call.abandon("it went on with another call");
    this.#use(next);
    return true;
  }

  /** Opens another call while the server drains, and lets go of the one so far once that has begun. */
  async #moveFrom(call) {
    this.#stays = call;
    if (this.#calls.nextPause() === null) return false;
    let next;
    try {
      next = this.#calls.begin();
    } catch {
      return false;
    }
    const isOpen = await Promise.race([next.begun, sleep(MAX_FIRST_WAIT_MS).then(() => next.connection !== null)]);
    const isComplete = call.isOver && !call.error;
    if (isComplete || this.#isLeft || !isOpen) {
      next.abandon("the stream stays where it is");
      return false;
    }
    call.abandon("it went on with another call");
    this.#use(next);
    return true;
  }
}

/** The calls of a stream with `resume`, one after the other. */
class ResumedCalls {
  #args;
  #options;
  #resume;
  #open;
  #deadline;
  /** The calls in a row without an item. */
  #fruitless = 0;

  constructor(args, options, resume, open) {
    this.#args = () => args;
    this.#options = options;
    this.#resume = resume;
    this.#open = open;
    this.#deadline = options.timeout === undefined ? Infinity : now() + options.timeout;
  }

  taken(item) {
    this.#args = () => this.#resume(item);
    this.#fruitless = 0;
  }

  /** Returns the pause before the next call, in ms; null if there were enough of them. The first is made at once. */
  nextPause() {
    if (this.#fruitless >= MAX_FRUITLESS_CALLS || this.#deadline <= now()) return null;
    const pause = this.#fruitless === 0 ? 0 : FIRST_PAUSE_MS * 2 ** (this.#fruitless - 1);
    this.#fruitless += 1;
    return Math.min(pause, MAX_PAUSE_MS);
  }

  /** Makes the next call. The time of the whole stream is not renewed. */
  begin() {
    const left = this.#deadline === Infinity ? {} : { timeout: this.#deadline - now() };
    return this.#open(this.#args(), { ...this.#options, ...left });
  }
}

/** Cancels the calls of streams that their callers have forgotten. */
const forgotten =
  globalThis.FinalizationRegistry && new FinalizationRegistry((call) => call.abandon("its caller has forgotten it"));


/**
 * The number of tries that the calls of a client may repeat together: a share of its calls, or a small number if that is
 * more, so that tries do not add load to servers that have too much.
 */
class RetryBudget {
  #at = now();
  /** The calls since then; and those before and the tries, older ones with less weight. */
  #added = 0;
  #calls = 0;
  #tries = 0;

  /** Counts a call. */
  deposit() {
    this.#added += 1;
  }

  /** Withdraws one try. Returns false if none is left. */
  withdraw() {
    const passed = now() - this.#at;
    // Of calls over a longer time than the window, the part within it counts.
    const recent = passed > RETRY_WINDOW_MS ? (this.#added * RETRY_WINDOW_MS) / passed : this.#added;
    const kept = 1 - Math.min(passed, RETRY_WINDOW_MS) / RETRY_WINDOW_MS;
    this.#calls = this.#calls * kept + recent;
    this.#tries *= kept;
    this.#at += passed;
    this.#added = 0;
    const floor = (RETRY_FLOOR * RETRY_WINDOW_MS) / 1000;
    if (Math.max(RETRY_SHARE * this.#calls, floor) - this.#tries < 1) return false;
    this.#tries += 1;
    return true;
  }
}

/** A call, from its start to its outcome. */
class Call {
  /** The connection that it was sent over; `seq` is its number there. */
  connection = null;
  seq = 0;
  /** The number of times that it was sent. */
  tries = 0;
  /** The failed tries that count, and the goaways that have refused it. */
  #counted = 0;
  #goaways = 0;
  #deadline = Infinity;
  #signal;
  #timer = null;
  #aborted = null;
  #resolve;
  #reject;
  /** The timer of the pause before another try. */
  #rest = null;
  #longestPause = FIRST_RETRY_PAUSE_MS;
  /** True if the server carries it out once; then the store of the server that may have done so, and since when. */
  #isOnce = false;
  #triedAt = null;
  /** The error of a try that may have been carried out. */
  #maybe = null;

  constructor(method, args, { timeout, signal, metadata = {}, idempotent = false, once = false }, usualTimeout) {
    // Half of a surrogate pair in a header would end the connection, with all of its calls.
    if (typeof method !== "string" || method === "" || !isWellFormed(method)) {
      throw new FarcallError("invalid_argument", "the name of a method is a string such as Arith.multiply", "not_sent");
    }
    this.method = method;
    /** The name in messages. */
    this.label = shownName(method);
    try {
      if (typeof args !== "object") throw new TypeError("the arguments are an object, or an array");
      this.timeout = checkTimeout(timeout ?? usualTimeout);
      this.metadata = checkMetadata(once ? { [IDEMPOTENCY_KEY]: newKey(), ...metadata, "farcall-once": "1" } : metadata);
      this.#isOnce = once;
      // Now, so that later changes by the caller have no effect.
      this.body = encoder.encode(encode(args));
    } catch (cause) {
      throw new FarcallError("invalid_argument", `${shownName(method)}: ${cause.message}`, "not_sent", { cause });
    }
    this.flags = idempotent ? FLAG_IDEMPOTENT : 0;
    this.#signal = signal;
    if (this.timeout !== undefined) this.#deadline = now() + this.timeout;
  }

  /** Throws if the caller gave up or the deadline has passed. */
  checkGivenUp() {
    if (this.#signal?.aborted) throw this.#abortion();
    if (this.isLate) throw this.#lateness();
  }

  /** True if less than a millisecond remains, in which nothing is sent: section 9. */
  get isLate() {
    return this.#deadline - now() < 1;
  }

  /** True if less than that remains after a pause. */
  isLateAfter(pause) {
    return this.#deadline - now() - pause < 1;
  }

  /**
   * Returns the error of a call that is carried out once and cannot be over this connection: its server would not know
   * of an earlier try. Undefined if it can.
   */
  checkOnce(store) {
    if (!this.#isOnce) return undefined;
    const refused = (code, why) => new FarcallError(code, `${this.label}: ${why}`, "not_sent");
    if (store === undefined) {
      return refused("unimplemented", "it is to be carried out once, and no method of the server is so");
    }
    if (this.#maybe === null) {
      this.#triedAt = { store, since: now() };
      return undefined;
    }
    if (this.#triedAt.store !== store) {
      const other = "it has restarted, or is another one";
      return refused("unavailable", `it may have been carried out, and the server does not know: ${other}`);
    }
    if (now() - this.#triedAt.since > MAX_REPEAT_AGE_MS) {
      return refused("unavailable", `it may have been carried out over ${MAX_REPEAT_AGE_MS} ms ago`);
    }
    return undefined;
  }

  /**
   * Returns the pause before another try after this error, and whether the failed one cost the server no more than to
   * read it: then it does not count, and costs the budget nothing. Null if there is no other try.
   */
  nextTry(error, by) {
    if (this.#isOnce && error.execution === "maybe") this.#maybe ??= error;
    if (by === "goaway" && ++this.#goaways <= MAX_GOAWAYS) {
      // Connections that do not last are dialed with pauses.
      return { pause: this.#goaways <= MAX_TRIES ? 0 : this.#randomPause(), isFree: true };
    }
    this.#counted += 1;
    const pause = this.#counted < MAX_TRIES ? this.#pauseAfter(error, by) : null;
    return pause === null ? null : { pause, isFree: false };
  }

  #pauseAfter(error, by) {
    if (error.execution === "maybe") return this.#isOnce && by === "loss" ? this.#randomPause() : null;
    if (error.execution !== "refused" || FINAL_CODES.has(error.code)) return null;
    if (by === "goaway") return this.#randomPause();
    const asked = retryAfter(error);
    return asked > MAX_RETRY_AFTER_MS ? null : asked * (1 + Math.random() / 4);
  }

  /** Waits before another try. */
  rest(pause, then) {
    this.#rest = setTimeout(then, pause);
  }

  #randomPause() {
    const pause = Math.random() * this.#longestPause;
    this.#longestPause = Math.min(2 * this.#longestPause, MAX_RETRY_PAUSE_MS);
    return pause;
  }

  /** Returns a promise of the result; calls `giveUp` if the deadline passes or the caller gives up first. */
  start(giveUp) {
    if (this.#deadline - now() <= MAX_TIMER_MS) {
      this.#timer = setTimeout(() => giveUp(this.#lateness()), this.#deadline - now());
    }
    this.#aborted = () => giveUp(this.#abortion());
    this.#signal?.addEventListener("abort", this.#aborted);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** The header of its request: section 4.2. */
  header(seq) {
    const header = { kind: "request", seq, service_method: this.method };
    if (this.#deadline < Infinity) header.timeout_ms = Math.ceil(this.#deadline - now());
    const metadata = this.tries > 0 ? { ...this.metadata, "farcall-attempt": String(this.tries + 1) } : this.metadata;
    if (Object.keys(metadata).length > 0) header.metadata = metadata;
    if (this.flags) header.flags = this.flags;
    return header;
  }

  succeed(value) {
    this.#end();
    this.#resolve(value);
  }

  fail(error) {
    this.#end();
    // A try of which nothing was done hides none that was made.
    const isUndone = error.execution === "not_sent" || error.execution === "refused";
    this.#reject(isUndone ? (this.#maybe ?? error) : error);
  }

  /** Fails a call whose deadline passed before it was sent. */
  failLate() {
    this.fail(this.#lateness());
  }

  #end() {
    clearTimeout(this.#timer);
    clearTimeout(this.#rest);
    this.#signal?.removeEventListener("abort", this.#aborted);
  }

  #lateness() {
    return new FarcallError("deadline_exceeded", `${this.label}: not within ${this.timeout} ms`, this.execution);
  }

  #abortion() {
    const cause = this.#signal.reason;
    return new FarcallError("cancelled", `${this.label}: its caller gave up`, this.execution, { cause });
  }

  /** True if all that was sent of it can be sent again. */
  get isWhole() {
    return true;
  }

  /** Prepares the call to be made again. */
  renew() {}

  /** States what an error means that this side found. */
  get execution() {
    return this.connection || this.#maybe ? "maybe" : "not_sent";
  }
}

/** A streaming call: both directions of its items, as its caller and its connection see them. See section 18. */
class StreamCall extends Call {
  isDraining = false;
  /** True if another call may follow it, so that callers that wait for an item want to know that the server drains. */
  isResumable = false;
  /** The {@link Stream} while its result is waited for. */
  owner = null;
  #settings;
  #giveUp;
  #outcome;
  #isOver = false;
  /** The error that the call has ended with. */
  #error = null;
  /** The error that the iteration still has to throw. */
  #untold = null;
  #firstWithin;
  #firstTimer = null;
  #gap;
  #drained = withResolvers();
  #begun = withResolvers();
  /** True once an item has arrived. */
  #hasItems = false;
  #receiveWindow;
  /** The items that have arrived. Bounded by the window, and one item. */
  #inbox = new Fifo();
  /** The callers that wait for an item. */
  #readers = [];
  /** True if the caller takes no more items. */
  #isStopped = false;
  /** The server's credit; null while the call is not sent. */
  #sendWindow = null;
  #maxItemBytes = Infinity;
  /** The items that wait for credit. Bounded by {@link MAX_WAITING_ITEMS}. */
  #waiting = new Fifo();
  #waitingCost = 0;
  #stallTimer = null;
  /** The items that have credit, and wait for their turn. Bounded by {@link MAX_QUEUED_ITEMS}. */
  #queue = new Fifo();
  #queuedCost = 0;
  /** The bodies of sent items, to send them again if the server refuses the call; null if it cannot be. */
  #kept = [];
  #keptCost = 0;
  /** True once the caller said that no more items come. */
  #isFinished = false;
  /** True once the server knows. */
  #isEndSent = false;
  /** True if the server takes no more items. */
  #isUnwanted = false;

  constructor(method, args, options, settings) {
    super(method, args, { ...options, timeout: options.timeout ?? Infinity }, undefined);
    if (options.once) {
      throw new FarcallError("invalid_argument", `${shownName(method)}: a streaming call is not carried out once`, "not_sent");
    }
    this.flags |= FLAG_STREAMING;
    this.#settings = settings;
    this.#firstWithin = checkLimit(method, options.firstWithin ?? settings.timeout);
    this.#gap = checkLimit(method, options.gap);
    this.#receiveWindow = this.#newReceiveWindow();
  }

  /** The final value, a promise. */
  get outcome() {
    return this.#outcome;
  }

  get draining() {
    return this.#drained.promise;
  }

  /** A promise of true once an item or the result has come; of false if the call fails before. */
  get begun() {
    return this.#begun.promise;
  }

  get isOver() {
    return this.#isOver;
  }

  /** The error that the call has ended with; null if there is none. */
  get error() {
    return this.#error;
  }

  start(giveUp) {
    this.#giveUp = (error) => {
      // A call that this side ended delivers no more.
      this.#inbox.clear();
      giveUp(error);
    };
    this.#outcome = super.start(this.#giveUp);
    // A caller that only iterates, or sends, is told of a failure there.
    this.#outcome.catch(() => {});
    const message = `no item and no result within ${this.#firstWithin} ms, the firstWithin of the call`;
    this.#firstTimer = after(this.#firstWithin, () => this.#end("deadline_exceeded", message));
    return this.#outcome;
  }

  /** Begins on its connection, whose server grants `window` and accepts items of this size. */
  open(window, maxItemBytes) {
    this.#sendWindow = new SendWindow(window);
    this.#maxItemBytes = maxItemBytes;
    if (this.#isStopped) this.connection.sendAbout("stop", this);
    this.#accept();
  }

  get isWhole() {
    return this.#kept !== null;
  }

  renew() {
    const later = this.#waiting.clear();
    // Their callers were told that they are sent.
    const told = () => {};
    for (const body of this.#kept) this.#waiting.push({ body, resolve: told, reject: told });
    for (const item of later) this.#waiting.push(item);
    this.#waitingCost += this.#keptCost;
    this.#kept = [];
    this.#keptCost = 0;
    this.#dropQueue();
    this.#sendWindow = null;
    this.#isEndSent = this.#isUnwanted = false;
    this.#receiveWindow = this.#newReceiveWindow();
  }

  succeed(value) {
    if (this.#isOver) return;
    this.#begun.resolve(true);
    this.#close();
    for (const { resolve } of this.#waiting.clear()) resolve(false);
    this.#endReaders();
    super.succeed(value);
  }

  fail(error) {
    if (this.#isOver) return;
    if (this.#hasItems && error.execution === "refused") {
      // A server that has sent an item has started the call.
      const { code, message, details, metadata, cause } = error;
      error = new FarcallError(code, message, "maybe", { details, metadata, cause });
    }
    this.#error = this.#untold = error;
    this.#begun.resolve(false);
    this.#close();
    for (const { reject } of this.#waiting.clear()) reject(error);
    this.#endReaders();
    super.fail(error);
  }

  /** Cancels the call, unless it has ended, and drops the items that were not taken. */
  abandon(why, cause) {
    this.#inbox.clear();
    if (!this.#isOver) this.#end("cancelled", why, cause);
  }

  drain() {
    this.isDraining = true;
    this.#drained.resolve();
    if (!this.isResumable) return;
    for (const { resolve, timer } of this.#readers.splice(0)) {
      clearTimeout(timer);
      resolve(DRAINS);
    }
  }

  /** Returns a promise of the next item, as iterators do. `stream` is kept while its caller waits. */
  async next(stream) {
    if (this.#inbox.size > 0) return this.#take(this.#inbox.shift());
    if (this.#isStopped) return { value: undefined, done: true };
    if (this.#untold) throw this.#tellError();
    if (this.#isOver) return { value: undefined, done: true };
    const reader = { ...withResolvers(), stream, timer: null };
    if (this.#hasItems) this.#startGap(reader);
    this.#readers.push(reader);
    return reader.promise;
  }

  /** Handles an item that arrived. */
  takeIn(body, flags) {
    const { connection } = this;
    const isStarved = (flags & FLAG_STARVED) !== 0 && !this.#isStopped;
    const credit = this.#receiveWindow.receive(body.length, isStarved, (bytes) => connection.grow(bytes));
    if (credit !== null) connection.sendAbout("credit", this, credit);
    if (!this.#hasItems) this.#begun.resolve(true);
    this.#hasItems = true;
    this.#kept = null;
    clearTimeout(this.#firstTimer);
    if (this.#isStopped) return;
    const reader = this.#readers.shift();
    if (!reader) return this.#inbox.push({ body, flags });
    clearTimeout(reader.timer);
    for (const other of this.#readers) this.#startGap(other);
    try {
      reader.resolve(this.#take({ body, flags }));
    } catch (error) {
      reader.reject(error);
    }
  }

  /** Takes no more items. */
  stop() {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#inbox.clear();
    this.#endReaders();
    if (!this.#isOver) this.connection?.sendAbout("stop", this);
  }

  /** Gives back a part of what the window has grown by, if no item was starved for a while. */
  shrinkWindow() {
    const lost = this.#receiveWindow.shrink();
    if (lost > 0 && !this.#isOver) this.connection.takeBackGrowth(lost);
  }

  /** Returns a promise of true once an item has credit; false if no more are wanted. */
  async send(item, stream) {
    if (this.#isFinished) throw this.#itemError("invalid_argument", "no item can follow finish()");
    if (this.#error) throw this.#error;
    if (this.#isOver || this.#isUnwanted) return false;
    const body = this.#encodeItem(item);
    if (this.#waitingCost >= MAX_WAITING_ITEMS) {
      const message = `items of ${this.#waitingCost} bytes wait already: wait for each send before the next`;
      throw this.#itemError("resource_exhausted", message);
    }
    const waits = { ...withResolvers(), body, stream };
    this.#waiting.push(waits);
    this.#waitingCost += costOf(body);
    this.#accept();
    return waits.promise;
  }

  /** Sends no more items, and tells the server once all are sent. */
  finish() {
    this.#isFinished = true;
    this.#endIfSent();
  }

  /** Handles credit: the limit of what may be sent in all. */
  grant(limit) {
    this.#sendWindow.grant(limit);
    this.#accept();
  }

  /** Handles the server's notice that it takes no more items. */
  stopSending() {
    this.#isUnwanted = true;
    this.#dropQueue();
    this.#waitingCost = 0;
    for (const { resolve } of this.#waiting.clear()) resolve(false);
  }

  /** What the next item in turn costs; 0 if there is none. */
  get nextCost() {
    return this.#queue.size > 0 ? costOf(this.#queue.first.body) : 0;
  }

  /** Takes the next item in turn. */
  takeQueued() {
    const item = this.#queue.shift();
    this.#queuedCost -= costOf(item.body);
    return item;
  }

  /** Goes on after an item was written. */
  written() {
    if (this.#queuedCost <= MAX_QUEUED_ITEMS / 2) this.#accept();
    this.#endIfSent();
  }

  /** Moves items with credit to those that wait for their turn. */
  #accept() {
    if (this.#isOver || this.#isUnwanted || this.#sendWindow === null) return;
    while (this.#waiting.size > 0 && this.#queuedCost < MAX_QUEUED_ITEMS) {
      if (!this.#sendWindow.pollOpen()) {
        this.#stallTimer ??= after(this.#settings.streamStall, () => this.#stalled());
        break;
      }
      clearTimeout(this.#stallTimer);
      this.#stallTimer = null;
      const { body, resolve, reject } = this.#waiting.shift();
      this.#waitingCost -= costOf(body);
      if (body.length > this.#maxItemBytes) {
        reject(this.#tooLarge(body));
        continue;
      }
      this.#queue.push({ body, flags: this.#sendWindow.spend(body) });
      this.#queuedCost += costOf(body);
      this.#keep(body);
      resolve(true);
    }
    if (this.#queue.size > 0) this.connection.sendItems(this);
    this.#endIfSent();
  }

  #keep(body) {
    if (this.#kept === null) return;
    this.#keptCost += costOf(body);
    if (this.#keptCost > MAX_KEPT_ITEMS) this.#kept = null;
    else this.#kept.push(body);
  }

  #endIfSent() {
    const isSent = this.#isFinished && this.#waiting.size + this.#queue.size === 0;
    if (!isSent || this.#isEndSent || this.#isUnwanted || this.#isOver || this.#sendWindow === null) return;
    this.#isEndSent = true;
    this.connection.sendAbout("end", this);
  }

  /** Decodes an item, and counts it as consumed. */
  #take({ body, flags }) {
    const credit = this.#receiveWindow.consume(body.length);
    this.shrinkWindow();
    if (credit !== null && !this.#isOver) this.connection.sendAbout("credit", this, credit);
    try {
      if (flags & FLAG_COMPRESSED) throw new Error("it is compressed without an agreement");
      return { value: body.length > 0 ? decode(decoder.decode(body)) : null, done: false };
    } catch (cause) {
      const message = `${this.label}: an item cannot be read: ${cause.message}`;
      const error = new FarcallError("internal", message, "maybe", { cause });
      this.#inbox.clear();
      if (!this.#isOver) this.#giveUp(error);
      this.#untold = null;
      throw error;
    }
  }

  #encodeItem(item) {
    let body;
    try {
      body = encoder.encode(encode(item));
      if (item === undefined) throw new TypeError("JSON has no undefined");
    } catch (cause) {
      throw this.#itemError("invalid_argument", `an item: ${cause.message}`, cause);
    }
    if (body.length > this.#maxItemBytes) throw this.#tooLarge(body);
    return body;
  }

  #startGap(reader) {
    const message = `no item within ${this.#gap} ms, the gap of the call`;
    reader.timer ??= after(this.#gap, () => this.#end("deadline_exceeded", message));
  }

  #stalled() {
    const limit = `${this.#settings.streamStall} ms, the streamStall of the client`;
    this.#end("resource_exhausted", `an item has waited for credit for ${limit}: the server takes no items`);
  }

  /** Ends the call on this side, with this error. */
  #end(code, message, cause) {
    this.#giveUp(this.#itemError(code, message, cause));
  }

  #close() {
    this.#isOver = true;
    this.#kept = null;
    this.#waitingCost = 0;
    this.#dropQueue();
    clearTimeout(this.#firstTimer);
    this.connection?.takeBackGrowth(this.#receiveWindow.growth);
    this.#drained.resolve();
    this.owner = null;
    forgotten?.unregister(this);
  }

  /** Ends the waits for items. The error of the call, if there is one, is thrown once. */
  #endReaders() {
    for (const { resolve, reject, timer } of this.#readers.splice(0)) {
      clearTimeout(timer);
      if (this.#untold && !this.#isStopped) reject(this.#tellError());
      else resolve({ value: undefined, done: true });
    }
  }

  #tellError() {
    const error = this.#untold;
    this.#untold = null;
    return error;
  }

  #dropQueue() {
    clearTimeout(this.#stallTimer);
    this.#stallTimer = null;
    this.#queue.clear();
    this.#queuedCost = 0;
  }

  #newReceiveWindow() {
    return new ReceiveWindow(this.#settings.streamWindow, this.#settings.maxStreamWindow);
  }

  #tooLarge(body) {
    const limit = `${this.#maxItemBytes} bytes (its max_frame_bytes)`;
    const over = `is over the server's limit of ${limit}`;
    return this.#itemError("resource_exhausted", `an item of ${body.length} bytes ${over}`);
  }

  #itemError(code, message, cause) {
    return new FarcallError(code, `${this.label}: ${message}`, this.execution, { cause });
  }
}


/** One WebSocket to the server, from its opening to its end. */
class Connection {
  #url;
  #settings;
  #owner;
  #socket;
  #timer;
  #frames = new Frames();
  /** The terms of the server's Option; null before the handshake is complete. */
  #terms = null;
  #readyAt = 0;
  /** The header whose body is still to come. */
  #header = null;
  /** Calls by number; null for cancelled calls. Bounded by the server's `max_in_flight`. */
  #inFlight = new Map();
  /** Streaming calls, as above. Bounded by the server's `max_streams`. */
  #streams = new Map();
  #turns = new ItemTurns();
  /** The number of bytes that all windows may still grow by. */
  #growthLeft;
  #isWriting = false;
  #itemTick = null;
  #seq = 0;
  /** The reason for refusing new calls: the server's goaway, or our own. */
  #leaving = null;
  /** Whether its client has left it, for a goaway. */
  wasLeft = false;
  #heard = 0;
  /** When a ping was sent, or the socket took bytes last that wait before it. */
  #pinged = -1;
  /** The number of bytes written so far, of those before the last ping, and of those taken when it was looked last. */
  #written = 0;
  #beforePing = 0;
  #taken = 0;
  /** When the server's last pings came, at most {@link MAX_PINGS}. */
  #pings = [];
  #isOpen = false;
  // A browser may keep a left page with its connections, but does not run its code meanwhile.
  #left = () => this.#end("unavailable", "the page was left");
  #isEnded = false;

  /** @param owner has the callbacks `place`, `leaving` and `ended` */
  constructor(url, settings, owner) {
    this.#url = url;
    this.#settings = settings;
    this.#owner = owner;
    this.#growthLeft = settings.maxStreamGrowth;
    const tooLong = `no answer to the handshake within ${settings.connectTimeout} ms`;
    this.#timer = setTimeout(() => this.#end("unavailable", tooLong), Math.min(settings.connectTimeout, MAX_TIMER_MS));
    try {
      this.#socket = new settings.WebSocket(url);
    } catch (cause) {
      // For example from a page loaded over https. Deferred, so that the owner knows this connection.
      queueMicrotask(() => this.#end("unavailable", `this WebSocket may not be opened: ${cause.message}`, cause));
      return;
    }
    globalThis.addEventListener?.("pagehide", this.#left);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#greet();
    this.#socket.onmessage = (event) => this.#hear(event.data);
    this.#socket.onclose = (event) => this.#end("unavailable", this.#closeReason(event));
  }

  /** True if there is a free slot. */
  get hasPlace() {
    return this.#takesCalls && this.#inFlight.size < this.#terms.maxInFlight;
  }

  /** True if there is a free slot for a streaming call, or there will never be one, which is the call's error. */
  get hasStreamPlace() {
    if (!this.#takesCalls) return false;
    const { streams } = this.#terms;
    return !streams || streams.max === 0 || this.#streams.size < streams.max;
  }

  get #takesCalls() {
    // A closing socket discards what is written: such calls wait for the next connection.
    return this.#terms !== null && !this.#leaving && this.#socket.readyState === OPEN;
  }

  /** True if so many bytes are unsent that further calls wait. */
  get isFull() {
    return this.#socket.bufferedAmount > MAX_BUFFERED_BYTES;
  }

  /** Sends a call; requires a free slot. An invalid call fails alone. */
  send(call) {
    if (call.isLate) return call.failLate();
    const isStream = call instanceof StreamCall;
    const unknown = call.checkOnce(this.#terms.onceStore);
    if (unknown) return call.fail(unknown);
    if (isStream && !this.#terms.streams?.max) return call.fail(noStreams(call.label, this.#terms.streams));
    const header = encoder.encode(JSON.stringify(call.header(this.#seq + 1)));
    for (const [what, bytes, limit] of [
      ["header", header, Math.min(MAX_HEADER_BYTES, this.#terms.maxFrameBytes)],
      ["body", call.body, this.#terms.maxFrameBytes],
    ]) {
      if (bytes.length > limit) {
        const over =
          limit === MAX_HEADER_BYTES && what === "header"
            ? `over the protocol's limit of ${limit}`
            : `over the server's limit of ${limit} bytes (its max_frame_bytes)`;
        const message = `${call.label}: its ${what} of ${bytes.length} bytes is ${over}`;
        return call.fail(new FarcallError("resource_exhausted", message, "not_sent"));
      }
    }
    this.#seq += 1;
    call.seq = this.#seq;
    call.connection = this;
    call.tries += 1;
    (isStream ? this.#streams : this.#inFlight).set(call.seq, call);
    this.#write(header, call.body);
    if (isStream) call.open(this.#terms.streams.window, this.#terms.maxFrameBytes);
  }

  /** Cancels a call on the server. Its slot is free once it is answered: section 5.3. */
  cancel(call) {
    const calls = call instanceof StreamCall ? this.#streams : this.#inFlight;
    if (calls.get(call.seq) !== call) return;
    calls.set(call.seq, null);
    this.#writeHeader({ kind: "cancel", seq: call.seq });
  }

  /** Sends a message of a stream that is no item: it waits for nothing. */
  sendAbout(kind, call, value) {
    if (this.#isEnded) return;
    const body = value === undefined ? EMPTY : encoder.encode(String(value));
    this.#write(encoder.encode(JSON.stringify({ kind, seq: call.seq })), body);
  }

  /** Sends the items of a stream, in its turn. */
  sendItems(call) {
    this.#turns.add(call);
    this.#writeItems();
  }

  /** Returns true if the window of a stream may grow by this number of bytes. */
  grow(bytes) {
    if (bytes > this.#growthLeft) {
      // Windows shrink when they are looked at.
      for (const call of this.#streams.values()) call?.shrinkWindow();
    }
    if (bytes > this.#growthLeft) return false;
    this.#growthLeft -= bytes;
    return true;
  }

  /** Takes back what a window had grown by. */
  takeBackGrowth(bytes) {
    this.#growthLeft += bytes;
  }

  #writeItems() {
    // Each item that leaves may let its caller send another.
    if (this.#isWriting) return;
    this.#isWriting = true;
    while (!this.#isEnded) {
      const unsent = this.#socket.bufferedAmount;
      // An item of any size passes if nothing else waits.
      const room = unsent === 0 ? Infinity : MAX_BUFFERED_ITEMS - unsent;
      // A call that was refused may be on another connection by now.
      const call = this.#turns.next(room, (call) => (call.connection === this ? call.nextCost : 0));
      if (!call) break;
      const { body, flags } = call.takeQueued();
      const header = { kind: "item", seq: call.seq };
      if (flags) header.flags = flags;
      this.#write(encoder.encode(JSON.stringify(header)), body);
      call.written();
    }
    this.#isWriting = false;
    if (this.#turns.isEmpty || this.#isEnded) return;
    // A WebSocket has no event for room.
    this.#itemTick ??= setTimeout(() => ((this.#itemTick = null), this.#writeItems()));
  }

  /** Waits for the answers to the calls in flight, then closes. */
  finish() {
    if (!this.#terms) return this.#end("unavailable", "the client was closed");
    if (!this.#leaving) this.#writeHeader({ kind: "goaway", seq: this.#seq });
    this.#leaving ??= "the client was closed";
    this.#closeIfDone();
  }

  /** Sends the Option: section 3. */
  async #greet() {
    this.#isOpen = true;
    const { token, connectTimeout, maxFrameBytes, streamWindow } = this.#settings;
    const option = { magic_number: MAGIC_NUMBER, version: VERSION, codec_type: CODEC };
    option.connect_timeout_ms = connectTimeout;
    option.max_frame_bytes = maxFrameBytes;
    option.features = [STREAMS];
    option.stream_window = streamWindow;
    try {
      option.token = typeof token === "function" ? await token() : token;
    } catch (cause) {
      return this.#end("unauthenticated", "there is no token", cause);
    }
    if (this.#isEnded) return;
    const bytes = encoder.encode(JSON.stringify(option));
    if (bytes.length > MAX_OPTION_BYTES) return this.#end("invalid_argument", "the token is too long for a handshake");
    this.#write(bytes);
  }

  #hear(data) {
    if (this.#isEnded) return;
    this.#heard = now();
    if (!(data instanceof ArrayBuffer)) return this.#end("unavailable", "the server sent text instead of bytes");
    try {
      this.#frames.read(new Uint8Array(data), () => this.#limit, (frame) => this.#take(frame));
    } catch (error) {
      if (error instanceof Answered && this.#terms) {
        const why = { code: error.code, message: error.message };
        this.#writeHeader({ kind: "goaway", seq: this.#seq, error: why });
      }
      this.#end("unavailable", `the server broke the protocol: ${error.message}`, error);
    }
  }

  /** The size limit of the next frame. */
  get #limit() {
    if (!this.#terms) return MAX_OPTION_BYTES;
    const most = this.#settings.maxFrameBytes;
    return this.#header ? most : Math.min(MAX_HEADER_BYTES, most);
  }

  #take(frame) {
    if (this.#isEnded) return;
    if (!this.#terms) return this.#agree(JSON.parse(decoder.decode(frame)));
    if (!this.#header) {
      this.#header = checkHeader(JSON.parse(decoder.decode(frame)));
      return;
    }
    const header = this.#header;
    this.#header = null;
    this.#takeMessage(header, frame);
  }

  #agree(option) {
    if (option && isStated(option.error)) {
      const { code, message } = readError(option.error);
      return this.#end(code, `the server refused: ${message}`);
    }
    if (option?.magic_number !== MAGIC_NUMBER || option.version !== VERSION || option.codec_type !== CODEC) {
      throw new Error("its Option is not one of version 1 in JSON");
    }
    if (isStated(option.compression)) throw new Error("compression in its Option was not offered");
    this.#terms = {
      // 0 says no more than no value does.
      maxFrameBytes: stated(option, "max_frame_bytes", 0) || DEFAULT_MAX_FRAME_BYTES,
      maxInFlight: stated(option, "max_in_flight", 0) || DEFAULT_MAX_IN_FLIGHT,
      streams: features(option).includes(STREAMS) ? streamTerms(option) : null,
      onceStore: onceStore(option.once_store),
    };
    this.#readyAt = now();
    clearTimeout(this.#timer);
    this.#watch();
    this.#owner.place();
  }

  #takeMessage({ kind, seq, error, metadata, flags }, body) {
    switch (kind) {
      case "response": {
        const calls = this.#streams.has(seq) ? this.#streams : this.#inFlight;
        const call = calls.get(seq);
        if (!calls.delete(seq)) return; // Section 5.2.
        if (call) answer(call, error, metadata ?? {}, flags, body, this.#owner.retry);
        if (this.#leaving) this.#closeIfDone();
        else this.#owner.place();
        return;
      }
      case "ping":
        this.#countPing();
        return this.#writeHeader({ kind: "pong", seq });
      case "pong":
        return;
      case "goaway": {
        const { code, message } = readError(error ?? { code: "unavailable", message: "it takes no more calls" });
        this.#leaving = `the server said goaway: ${message} (${code})`;
        const calls = [this.#inFlight, this.#streams].flatMap((all) => takeAbove(all, seq));
        for (const call of calls) call.connection = null;
        for (const call of this.#streams.values()) call?.drain();
        const why = this.#error("unavailable", this.#leaving, "refused");
        return this.#owner.leaving(calls, why, now() - this.#readyAt);
      }
      case "item":
      case "credit":
      case "stop":
        if (this.#terms.streams) return this.#takeOfStream(kind, this.#streams.get(seq), flags, body);
      // Without an agreement they are no messages of a server: section 18.1.
      default:
        throw new Error(`its message is a ${escape(kind)}`);
    }
  }

  /** @param call undefined or null if it is not in flight: then the message is ignored */
  #takeOfStream(kind, call, flags, body) {
    if (kind === "item") return call?.takeIn(body, flags ?? 0);
    if (kind === "stop") return call?.stopSending();
    // Checked also for a call that is over: what it says does not depend on when it comes.
    const limit = readCredit(body);
    call?.grant(limit);
  }

  #countPing() {
    this.#pings = this.#pings.filter((time) => now() - time < PING_WINDOW_MS);
    if (this.#pings.push(now()) > MAX_PINGS) throw new Error(`more than ${MAX_PINGS} pings in ${PING_WINDOW_MS} ms`);
  }

  /** Pings a silent server, and closes the connection if it stays silent: section 13. */
  #watch() {
    const { pingAfter, pongTimeout } = this.#settings;
    const waits = () => this.#pinged > this.#heard;
    const due = () => (waits() ? this.#pinged + pongTimeout : this.#heard + pingAfter);
    if (now() >= due()) {
      const earlier = this.#taken;
      this.#taken = this.#written - this.#socket.bufferedAmount;
      if (!waits()) {
        this.#beforePing = this.#written;
        this.#writeHeader({ kind: "ping", seq: 0 });
      } else if (earlier >= Math.min(this.#beforePing, this.#taken)) {
        return this.#end("unavailable", `the server was silent for ${Math.round(now() - this.#heard)} ms`);
      }
      // A ping waits behind a large request on a slow link. While the socket takes some of it, the time begins again.
      this.#pinged = now();
    }
    this.#timer = setTimeout(() => this.#watch(), Math.min(due() - now() + 1, pingAfter, MAX_TIMER_MS));
  }

  #writeHeader(header) {
    this.#write(encoder.encode(JSON.stringify(header)), EMPTY);
  }

  #write(...frames) {
    const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + 4 + frame.length, 0));
    const view = new DataView(bytes.buffer);
    let at = 0;
    for (const frame of frames) {
      view.setUint32(at, frame.length);
      bytes.set(frame, at + 4);
      at += 4 + frame.length;
    }
    this.#written += bytes.length;
    for (let from = 0; from < bytes.length; from += MAX_MESSAGE_BYTES) {
      this.#socket.send(bytes.subarray(from, from + MAX_MESSAGE_BYTES));
    }
  }

  /** Closes after our own goaway once all calls are answered. */
  #closeIfDone() {
    if (this.#inFlight.size + this.#streams.size === 0) this.#end("unavailable", this.#leaving);
  }

  #end(code, why, cause) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#itemTick);
    globalThis.removeEventListener?.("pagehide", this.#left);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    const calls = [...this.#inFlight.values(), ...this.#streams.values()].filter((call) => call !== null);
    this.#inFlight.clear();
    this.#streams.clear();
    const lasted = this.#terms ? now() - this.#readyAt : -1;
    const lost = this.#terms ? `the connection was lost: ${why}` : why;
    const failures = calls.map((call) => [call, this.#error("unavailable", lost, "maybe", cause)]);
    // Those that are made again wait for the next connection, which the owner dials then.
    for (const [call, error] of failures) if (!this.#owner.retry(call, error, "loss")) call.fail(error);
    this.#owner.ended(this.#error(code, lost, "not_sent", cause), lasted);
  }

  #error(code, why, execution, cause) {
    return new FarcallError(code, `${this.#terms ? "" : "connecting to "}${shownName(this.#url)}: ${why}`, execution, { cause });
  }

  #closeReason({ code, reason }) {
    if (this.#leaving) return this.#leaving;
    const status = `status ${code}${reason ? `, ${escape(reason)}` : ""}`;
    if (this.#isOpen) return `the WebSocket was closed (${status})`;
    const origin = globalThis.location?.origin;
    const refused = origin ? `, or it does not allow WebSockets of pages from ${origin}` : "";
    return `the WebSocket did not open (${status}): no farcall server answers there${refused}`;
  }
}

/** Splits received bytes into frames, independent of message boundaries: section 2. */
class Frames {
  #buffer = new Uint8Array(4);
  #filled = 0;
  #isLength = true;

  /** Passes each complete frame to `take`; `limit` returns the size limit of the next one. */
  read(bytes, limit, take) {
    let at = 0;
    while (at < bytes.length) {
      const part = bytes.subarray(at, at + this.#buffer.length - this.#filled);
      this.#buffer.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled < this.#buffer.length) return;
      if (this.#isLength) {
        const length = new DataView(this.#buffer.buffer).getUint32(0);
        if (length > limit()) {
          throw new Answered("resource_exhausted", `a frame of ${length} bytes, where ${limit()} are allowed`);
        }
        this.#expect(length, false);
        if (length > 0) continue;
      }
      const frame = this.#buffer;
      this.#expect(4, true);
      take(frame);
    }
  }

  #expect(length, isLength) {
    this.#buffer = new Uint8Array(length);
    this.#filled = 0;
    this.#isLength = isLength;
  }
}

/** A violation of the protocol that the server is told of, by a goaway with this code. */
class Answered extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** A queue: unlike an array it takes the first of many in constant time. */
class Fifo {
  #items = [];
  #head = 0;

  get size() {
    return this.#items.length - this.#head;
  }

  get first() {
    return this.#items[this.#head];
  }

  push(item) {
    this.#items.push(item);
  }

  shift() {
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Empties it, and returns what it had. */
  clear() {
    const items = this.#items.slice(this.#head);
    this.#items = [];
    this.#head = 0;
    return items;
  }
}

/**
 * What the times of its credits tell a receiver of the path to the sender. A sender that waits for credit is idle for
 * the delay of the path in each window. A larger window helps as long as the window passes in about that time; beyond,
 * it only puts more bytes in front of whatever else the connection carries.
 */
class CreditTimes {
  /** The times of the last credit and of the one before it, half of a window apart; null before. */
  #sent = [null, null];
  /** The time in which the last window was consumed; null if none was. */
  #window = null;
  /** A credit that no item has needed yet: the limit before it, its own, and its time; null if there is none. */
  #pending = null;
  /** The shortest time from a credit to the item that waited for it; null if none was seen. */
  #delay = null;

  /** Notes that the limit is raised, after items of the cost `received`. */
  credit(before, limit, received) {
    const time = now();
    if (this.#sent[1] !== null) this.#window = time - this.#sent[1];
    this.#sent = [time, this.#sent[0]];
    if (this.#pending === null || this.#pending.limit <= received) this.#pending = { before, limit, sent: time };
  }

  /** Notes that an item that had waited arrived, after others of the cost `received`. */
  starvedItem(received) {
    if (this.#pending === null || received < this.#pending.before) return;
    const { limit, sent } = this.#pending;
    this.#pending = null;
    // If not, a later credit let this item through.
    if (received < limit) this.#delay = Math.min(this.#delay ?? Infinity, now() - sent);
  }

  /** True if the last window was consumed within twice the delay. */
  get isWindowShort() {
    if (this.#window === null || this.#delay === null) return false;
    return this.#window <= 2 * Math.max(this.#delay, MIN_DELAY_MS);
  }
}

/** The credit that the receiver of items grants: section 18.3. */
class ReceiveWindow {
  #initial;
  #max;
  #size;
  #granted;
  #received = 0;
  #consumed = 0;
  /** `consumed` when the window last grew. */
  #grownAt = 0;
  /** The time from which {@link SHRINK_AFTER_MS} counts; null if the window has its initial size. */
  #starvedAt = null;
  #times = new CreditTimes();

  constructor(initial, max) {
    this.#initial = this.#size = this.#granted = initial;
    this.#max = max;
  }

  /** The number of bytes by which it has grown. */
  get growth() {
    return this.#size - this.#initial;
  }

  /**
   * Accounts for an item that arrived. Returns the credit to send, or null. `grow` gets the number of bytes that the
   * window would grow by, and returns true if it may.
   */
  receive(bodyLength, isStarved, grow) {
    if (this.#received >= this.#granted) {
      const message = `an item was sent although ${this.#received} of ${this.#granted} had been spent`;
      throw new Answered("invalid_argument", message);
    }
    const allTaken = this.#received === this.#consumed;
    if (isStarved) this.#times.starvedItem(this.#received);
    this.#received += bodyLength + ITEM_OVERHEAD;
    if (!isStarved) return null;
    if (this.#starvedAt !== null) this.#starvedAt = now();
    const max = this.#times.isWindowShort ? this.#max : Math.min(this.#max, UNCONDITIONAL_SIZE);
    const more = Math.min(this.#size, max - this.#size);
    if (!allTaken || more <= 0 || this.#consumed - this.#grownAt < this.#size || !grow(more)) return null;
    this.#size += more;
    this.#grownAt = this.#consumed;
    this.#starvedAt = now();
    return this.#raise();
  }

  /** Accounts for an item that the application took. Returns the credit to send, or null. */
  consume(bodyLength) {
    this.#consumed += bodyLength + ITEM_OVERHEAD;
    const unannounced = this.#consumed + this.#size - this.#granted;
    return unannounced >= Math.ceil(this.#size / 2) ? this.#raise() : null;
  }

  /** Halves it if no item was starved for a while. What was granted stays granted. Returns the bytes that it lost. */
  shrink() {
    const before = this.#size;
    while (this.#starvedAt !== null && now() - this.#starvedAt >= SHRINK_AFTER_MS) {
      this.#size = Math.max(Math.floor(this.#size / 2), this.#initial);
      this.#starvedAt = this.#size > this.#initial ? this.#starvedAt + SHRINK_AFTER_MS : null;
    }
    return before - this.#size;
  }

  #raise() {
    const limit = this.#consumed + this.#size;
    if (limit <= this.#granted) return null;
    this.#times.credit(this.#granted, limit, this.#received);
    this.#granted = limit;
    return limit;
  }
}

/** The credit of the sender of items: section 18.3. */
class SendWindow {
  #limit;
  #spent = 0;
  #hasWaited = false;

  constructor(limit) {
    this.#limit = limit;
  }

  /** Returns true if an item may be sent, of any size. If not, the next one is marked as starved. */
  pollOpen() {
    const isOpen = this.#spent < this.#limit;
    this.#hasWaited ||= !isOpen;
    return isOpen;
  }

  /** Accounts for an item, and returns its flags. */
  spend(body) {
    this.#spent += costOf(body);
    const flags = this.#hasWaited ? FLAG_STARVED : 0;
    this.#hasWaited = false;
    return flags;
  }

  /** Raises the limit, which never falls. */
  grant(limit) {
    this.#limit = Math.max(this.#limit, limit);
  }
}

/**
 * The choice of the stream that sends its next item: deficit round robin (Shreedhar and Varghese, 1995), by which
 * streams share the connection by bytes, whatever the size of their items.
 */
class ItemTurns {
  /** Streams with the bytes left of their turns, in order. The first has begun its turn if `#isInTurn`. */
  #ready = [];
  #isInTurn = false;

  get isEmpty() {
    return this.#ready.length === 0;
  }

  add(call) {
    if (!this.#ready.some((turn) => turn.call === call)) this.#ready.push({ call, deficit: 0 });
  }

  /** Returns the stream whose item is sent next; null if there is none, or it does not fit into `room` bytes. */
  next(room, costOfNext) {
    while (this.#ready.length > 0) {
      const turn = this.#ready[0];
      const cost = costOfNext(turn.call);
      if (cost === 0) {
        this.#ready.shift();
        this.#isInTurn = false;
        continue;
      }
      if (!this.#isInTurn) turn.deficit += ITEM_QUANTUM;
      this.#isInTurn = true;
      // Alone, a stream need not save up for a large item.
      if (turn.deficit >= cost || this.#ready.length === 1) {
        if (cost > room) return null;
        turn.deficit = Math.max(turn.deficit - cost, 0);
        return turn.call;
      }
      this.#ready.push(this.#ready.shift());
      this.#isInTurn = false;
    }
    return null;
  }
}

/** Returns what an item costs: section 18.3. */
function costOf(body) {
  return body.length + ITEM_OVERHEAD;
}

/** Returns the limit that a credit message states. */
function readCredit(body) {
  const text = body.length <= 64 ? decoder.decode(body) : "";
  const isInteger = /^[ \t\r\n]*(0|[1-9]\d*)[ \t\r\n]*$/.test(text);
  if (!isInteger || BigInt(text) > U64_MAX) throw new Answered("invalid_argument", "a credit that is no integer");
  return Number(text);
}

/** Returns the terms of streams in the Option of a server that has them. */
function streamTerms(option) {
  const window = stated(option, "stream_window", DEFAULT_STREAM_WINDOW);
  return {
    window: Math.min(window, MAX_STREAM_WINDOW), // of 0, nothing may be spent before the first credit
    max: stated(option, "max_streams", DEFAULT_MAX_STREAMS),
  };
}

/** Returns the optional parts that a server's Option names. */
function features({ features }) {
  if (!isStated(features)) return [];
  const isList = Array.isArray(features) && features.every((feature) => typeof feature === "string");
  if (!isList) throw new Error("features in its Option is no list of strings");
  return features;
}

/** Returns a number of a server's Option, or the default if it has none. One of any size is a number. */
function stated(option, name, fallback) {
  const value = option[name];
  if (!isStated(value)) return fallback;
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name} in its Option is no count`);
  return value;
}

/** False for what stands for an absent field. */
function isStated(value) {
  return value !== undefined && value !== null;
}

/** Returns the error of a streaming call on a connection that takes none. */
function noStreams(method, terms) {
  const [code, why] = terms
    ? ["resource_exhausted", "the server runs no streaming calls (its max_streams is 0)"]
    : ["unimplemented", "the server has not agreed on streams in the handshake"];
  return new FarcallError(code, `${method} streams, and ${why}`, "not_sent");
}

/** Takes the calls above this number, and returns those that were not cancelled. */
function takeAbove(calls, seq) {
  const above = [...calls].filter(([number]) => number > seq);
  for (const [number] of above) calls.delete(number);
  return above.map(([, call]) => call).filter((call) => call !== null);
}

/** Starts a timer; null if there is no time limit, or it is beyond that of timers. */
function after(limit, callback) {
  return limit === undefined || limit > MAX_TIMER_MS ? null : setTimeout(callback, limit);
}

/** `Promise.withResolvers`, which older runtimes lack. */
function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function withResolvers() {
  let resolve;
  let reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

/** Returns the time in milliseconds that a server asks to wait before another try; infinity if it does not. */
function retryAfter(error) {
  const text = error.metadata["farcall-retry-after-ms"] ?? "";
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : Infinity;
}

/** Returns a new key for a call that is carried out once: 128 bits by chance, in hexadecimal digits. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns the name of the store with the keys of calls that a server carries out once; undefined if it has none. */
function onceStore(name) {
  if (name === undefined || name === null) return undefined;
  if (typeof name !== "string") throw new Error("once_store in its Option is no text");
  return name.slice(0, MAX_STORE_LENGTH) || undefined; // an empty name is none
}

/** Completes a call with its response. A body that does not decode fails only that call. */
function answer(call, error, metadata, flags, body, retry) {
  let value;
  let broken;
  try {
    if (flags & FLAG_COMPRESSED) throw new Error("it is compressed without an agreement");
    value = body.length > 0 ? decode(decoder.decode(body)) : undefined;
  } catch (cause) {
    broken = cause;
  }
  if (error) {
    const { code, message, execution } = readError(error);
    const failure = new FarcallError(code, `${call.label}: ${message}`, execution, { details: value, metadata });
    return retry(call, failure, "answer") ? undefined : call.fail(failure);
  }
  if (broken) {
    const message = `${call.label}: the result does not decode: ${broken.message}`;
    return call.fail(new FarcallError("internal", message, "done", { metadata, cause: broken }));
  }
  call.succeed(value ?? null);
}

/** Returns a valid header of section 4.2; throws otherwise. */
function checkHeader(header) {
  if (typeof header !== "object" || header === null || typeof header.kind !== "string") {
    throw new Error("a header without a kind");
  }
  if (!isUint(header.seq)) throw new Error("a header without a number");
  for (const [name, [isOfType, type]] of Object.entries(OPTIONAL_FIELDS)) {
    if (isStated(header[name]) && !isOfType(header[name])) throw new Error(`the ${name} of a header is no ${type}`);
  }
  return header;
}

const isUint = (value) => Number.isInteger(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
const isObject = (value) => typeof value === "object" && !Array.isArray(value);
const isString = (value) => typeof value === "string";

/** The fields of a header that may be absent, or null: what each is, and its name in messages. */
const OPTIONAL_FIELDS = {
  service_method: [isString, "string"],
  timeout_ms: [isUint, "integer"],
  error: [isObject, "object"],
  metadata: [(value) => isObject(value) && Object.values(value).every(isString), "map of strings"],
  flags: [isUint, "integer"],
};

/** Returns a valid error of section 11, whatever the server sent. */
function readError({ code, message, execution }) {
  return {
    code: CODES.has(code) ? code : "internal",
    message: escape(message && isString(message) ? message : isString(code) ? code : "internal"),
    execution: EXECUTIONS.has(execution) ? execution : "maybe",
  };
}

/** Returns a name for messages: its beginning, escaped. What is said of it stands behind it. */
function shownName(name) {
  const text = String(name);
  return escape(text.length > MAX_NAME_LENGTH ? `${text.slice(0, MAX_NAME_LENGTH)}…` : text);
}

/** Returns a peer's text, truncated and with control characters escaped: section 11.4. */
function escape(text) {
  const { read } = encoder.encodeInto(text, new Uint8Array(MAX_TEXT_BYTES));
  const code = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;
  return text.slice(0, read).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, code);
}

/**
 * True for the names that JavaScript, or a library that prints values, asks for by itself: symbols, those of every
 * object, `then` (by `await`), `toJSON` (by `JSON.stringify`), and marks such as `$$typeof`.
 */
function isOfLanguage(name) {
  if (typeof name === "symbol" || name in Object.prototype) return true;
  return name === "then" || name === "toJSON" || /^(\$\$|@@|__)/.test(name);
}

/**
 * Encodes a value as JSON: integers of any size, and bytes in base64 (section 6.3). Throws if JSON would lose a part
 * of it. A property without a value (undefined) is left out, like an argument that is not given.
 */
function encode(value) {
  return JSON.stringify(value, function (key, value) {
    // The value before `toJSON`, which Node's buffers have.
    const given = this[key];
    const refuse = (why) => {
      throw new TypeError(`${key === "" ? "the value" : shownName(key)}: ${why}`);
    };
    if (!isWellFormed(key)) refuse("its name has half of a surrogate pair");
    if (given instanceof Uint8Array) return base64(given);
    if (given instanceof ArrayBuffer) return base64(new Uint8Array(given));
    if (given instanceof Number || given instanceof Boolean || given instanceof BigInt) value = given.valueOf();
    switch (typeof value) {
      case "bigint":
        return encodeBigInt(value, refuse);
      case "number":
        return Number.isFinite(value) ? value : refuse(`JSON has no ${value}`);
      case "string":
        return isWellFormed(value) ? value : refuse("the text has half of a surrogate pair, which JSON cannot carry");
      case "undefined":
        // A hole of an array, or `toJSON` without a result; a property that is undefined is one that is not given.
        return given !== undefined || Array.isArray(this) ? refuse("JSON has no undefined") : undefined;
      case "function":
      case "symbol":
        return refuse(`JSON has no ${typeof value}`);
    }
    if (given instanceof Date && value === null) refuse("the date is invalid");
    if (value !== null && typeof value === "object") checkObject(value, refuse);
    return value;
  });
}

/** Sends an integer beyond 64 bits as its decimal text: section 6.3. */
function encodeBigInt(value, refuse) {
  if (BigInt.asUintN(64, value) !== value && BigInt.asIntN(64, value) !== value) return String(value);
  if (JSON.rawJSON) return JSON.rawJSON(String(value));
  if (Number.isSafeInteger(Number(value))) return Number(value);
  return refuse(`this runtime cannot send ${shownName(value)}`);
}

/** Refuses objects whose content JSON would leave out, such as maps, sets, promises and errors. */
function checkObject(value, refuse) {
  if (Array.isArray(value)) return;
  if (ArrayBuffer.isView(value)) refuse("of binary data JSON has bytes only: send a Uint8Array, or Array.from(it)");
  const prototype = Object.getPrototypeOf(value);
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null || JSON.isRawJSON?.(value);
  if (isPlain || Object.keys(value).length > 0) return;
  const name = prototype.constructor?.name ?? "object";
  if (value instanceof Map) refuse("JSON has no Map: send Object.fromEntries(it)");
  if (value instanceof Set) refuse("JSON has no Set: send Array.from(it)");
  if (typeof value.then === "function") refuse("it is a promise: await it first");
  refuse(`JSON would lose the content of a ${name}`);
}

/** False for text with half of a surrogate pair, which is no Unicode. */
function isWellFormed(text) {
  return text.isWellFormed?.() ?? !/\p{Cs}/u.test(text);
}

/** Decodes a value from JSON. Integers beyond 2^53 become `bigint`, because `Number` would round them. */
function decode(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return value;
    if (!context) throw new RangeError(`${key && `${shownName(key)}: `}this runtime cannot read ${shownName(value)} exactly`);
    return /^-?\d+$/.test(context.source) ? BigInt(context.source) : value;
  });
}

function base64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** Returns the pause after this number of consecutive failures, in milliseconds. */
function backoff(failures) {
  const { first, factor, max, jitter } = BACKOFF;
  return Math.min(first * factor ** (failures - 1), max) * (1 - jitter + 2 * jitter * Math.random());
}

/** Returns the URL of the WebSocket at an address. */
function parseAddress(address) {
  const text = String(address).replace(/^(wss?|https?)@/, "$1://");
  const wrong = (why) => new TypeError(`${JSON.stringify(shownName(address))} is no address for a WebSocket: ${why}`);
  if (!/^(wss?|https?):\/\//.test(text)) throw wrong("it begins with ws:// or wss://");
  if (!URL.canParse(text)) throw wrong("it is no URL");
  const url = new URL(text);
  if (url.username || url.password) throw wrong("a credential is given as `token`");
  if (url.search || url.hash) throw wrong("nothing may follow its path");
  url.protocol = url.protocol.replace("http", "ws");
  if (url.pathname === "/") url.pathname = "/_farcall_";
  return url.href;
}

/** Returns a checked timeout in milliseconds; undefined if there is none. */
function checkTimeout(timeout) {
  if (timeout === undefined || timeout === null || timeout === Infinity) return undefined;
  if (typeof timeout !== "number" || Number.isNaN(timeout)) throw new TypeError("a timeout is in milliseconds");
  // JSON would not carry it as a whole number.
  return timeout > Number.MAX_SAFE_INTEGER ? undefined : timeout;
}

/** As above, for a part of a streaming call. */
function checkLimit(method, limit) {
  try {
    return checkTimeout(limit);
  } catch (cause) {
    throw new FarcallError("invalid_argument", `${shownName(method)}: ${cause.message}`, "not_sent", { cause });
  }
}

/** Returns a checked copy of metadata: section 10. */
function checkMetadata(metadata) {
  const pairs = Object.keys(metadata).length;
  if (pairs > MAX_METADATA_PAIRS) throw new TypeError(`metadata of ${pairs} pairs: the limit is ${MAX_METADATA_PAIRS}`);
  for (const [key, value] of Object.entries(metadata)) {
    const isKey = /^[!-@[-~]{1,256}$/.test(key);
    if (!isKey) throw new TypeError(`metadata ${JSON.stringify(shownName(key))}: a key is in lower case, of at most 256 letters`);
    if (typeof value !== "string" || !isWellFormed(value)) throw new TypeError(`metadata ${shownName(key)}: a value is a text`);
  }
  return { ...metadata };
}

/** Returns a checked integer, or the default if there is none. */
function whole(value, fallback, name, min = 1) {
  if (value === undefined || value === null) return fallback;
  if (!Number.isSafeInteger(value) || value < min) throw new TypeError(`${name} is a whole number from ${min} up`);
  return value;
}
