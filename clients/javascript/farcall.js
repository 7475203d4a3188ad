/**
 * A client of farcall servers, for browsers and every other runtime that has WebSockets. It depends on nothing
 * and needs no build step: this file is all of it.
 *
 * It speaks version 1 of the wire protocol (docs/PROTOCOL.md, whose sections the comments name) in JSON, over
 * the binary messages of a WebSocket. It asks for no compression and knows no streams.
 *
 * @module farcall
 */

const MAGIC_NUMBER = 0xcafebabe;
const VERSION = 1;
const CODEC = "application/json";

const MAX_OPTION_BYTES = 4 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_TEXT_BYTES = 1024; // Of a peer's message, before anybody prints it: section 11.4.
const DEFAULT_MAX_FRAME_BYTES = 4 * 1024 * 1024;
const DEFAULT_MAX_IN_FLIGHT = 1024;

/** What one WebSocket message of ours carries: servers hold a message whole, and refuse large ones. */
const MAX_MESSAGE_BYTES = 64 * 1024;
/** What may wait in the socket before further calls wait outside of it, and how often that is looked at. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
const BUFFERED_TICK_MS = 10;
/** How often a call is taken to another connection because its server refused it in a goaway. */
const MAX_TRIES = 3;
/** A connection that ended sooner than this proves nothing: servers that let go at once are not dialed at once. */
const PROVEN_MS = 1000;
/** The pauses between dials that fail: gRPC's connection backoff. */
const BACKOFF = { first: 1000, factor: 1.6, most: 120_000, jitter: 0.2 };
/** Pings that a server may send in any so many milliseconds: section 13. */
const MAX_PINGS = 10;
const PING_WINDOW_MS = 5000;
/** Far fewer pings than a server takes. */
const MIN_PING_AFTER_MS = 1000;
/** The `readyState` of a WebSocket that may be written to. */
const OPEN = 1;
/** The longest that a timer of JavaScript can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const FLAG_COMPRESSED = 1;
const FLAG_IDEMPOTENT = 4;

const CODES = new Set([
  "cancelled", "deadline_exceeded", "invalid_argument", "unauthenticated", "unimplemented", "permission_denied",
  "resource_exhausted", "unavailable", "internal", "application",
]);
const EXECUTIONS = new Set(["done", "refused", "maybe"]);

const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const now = () => performance.now();

/**
 * What every call that fails rejects with, whatever the reason.
 *
 * `execution` says whether the work may have been done: `done` (the method ran to its end), `refused` (the
 * server never started it), `maybe` (nobody can know), `not_sent` (it never left this process).
 */
export class FarcallError extends Error {
  /**
   * @param {string} code one of section 11.1, such as `deadline_exceeded`
   * @param {string} message what went wrong, for people
   * @param {string} execution `done`, `refused`, `maybe` or `not_sent`
   * @param {{details?: unknown, metadata?: Record<string, string>, cause?: unknown}} [more]
   */
  constructor(code, message, execution, { details, metadata = {}, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "FarcallError";
    /** What kind of failure it is. */
    this.code = code;
    /** Whether the work may have been done. */
    this.execution = execution;
    /** The error that the method returned, where `code` is `application`; otherwise mostly undefined. */
    this.details = details;
    /** What the server sent along, such as `farcall-retry-after-ms`. */
    this.metadata = metadata;
  }
}

/**
 * A client of the server at an address. It connects at the first call, and again when that broke.
 *
 * @param {string | URL} address `ws://host:port` or `wss://host:port`, also written `ws@host:port`; `http` and
 *   `https` stand for these, so a page calls the server that it came from by `connect(location.origin)`.
 *   Without a path of its own it gets `/_farcall_`.
 * @param {import("./farcall.d.ts").ConnectOptions} [options]
 * @returns {Client}
 * @throws {TypeError} if the address is none, or an option is not what it should be
 */
export function connect(address, options = {}) {
  return new Client(address, options);
}

/** Calls methods of one server over one connection at a time. Made by {@link connect}. */
export class Client {
  #url;
  #settings;
  /** Calls without a place on a connection, first come first served. Bounded by `maxWaiting`. */
  #waiting = new Set();
  /** The connection for new calls: it may still be opening. */
  #connection = null;
  /** That one, and those that only finish what they have begun. */
  #connections = new Set();
  /** Connections in a row that failed, or did not last. */
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
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
    };
    if (!this.#settings.WebSocket) throw new TypeError("this runtime has no WebSocket: give one in the options");
  }

  /**
   * Calls a method, and gives its result.
   *
   * Integers beyond `Number.MAX_SAFE_INTEGER` come as `bigint`, and are sent as such. A `Uint8Array` among the
   * arguments is sent as bytes.
   *
   * @param {string} method such as `Arith.multiply`
   * @param {object | unknown[]} [args] the arguments by name, or in their order
   * @param {import("./farcall.d.ts").CallOptions} [options]
   * @returns {Promise<any>}
   * @throws {FarcallError} however it fails; see its `code` and `execution`
   */
  async call(method, args = {}, options = {}) {
    const call = new Call(method, args, options, this.#settings.timeout);
    if (this.#closing) throw new FarcallError("unavailable", `${method}: the client was closed`, "not_sent");
    call.checkGivenUp();
    if (this.#waiting.size >= this.#settings.maxWaiting) {
      const message = `${method}: ${this.#waiting.size} calls wait already`;
      throw new FarcallError("resource_exhausted", message, "not_sent");
    }
    const result = call.start((error) => this.#giveUp(call, error));
    this.#waiting.add(call);
    this.#pump();
    return result;
  }

  /**
   * The methods of a service as functions: `client.service("Arith").multiply({ a: 6, b: 7 })`.
   *
   * @param {string} name
   * @returns {any} each function takes the arguments and the options of {@link Client.call}
   */
  service(name) {
    const functionOf = (_, method) =>
      // `then` would make a promise of it for `await`; symbols are asked for by those who print it.
      typeof method === "symbol" || method === "then"
        ? undefined
        : (args, options) => this.call(`${name}.${method}`, args, options);
    return new Proxy(Object.freeze({}), { get: functionOf });
  }

  /** What can be called there: services, their methods, and what these take and return. */
  services(options) {
    return this.call("farcall.services", {}, options);
  }

  /** How the server is, or a service of it: `{ status: "serving" }` or `{ status: "draining" }`. */
  health(service, options) {
    return this.call("farcall.health", service === undefined ? {} : { service }, options);
  }

  /** Counts and times of each method, for the whole server. */
  stats(options) {
    return this.call("farcall.stats", {}, options);
  }

  /**
   * Takes no more calls, fails those that were not sent yet, and lets those under way be answered.
   *
   * @returns {Promise<void>} resolved when they are
   */
  close() {
    if (!this.#closing) {
      this.#closing = new Promise((resolve) => (this.#closed = resolve));
      this.#failWaiting(new FarcallError("unavailable", "the client was closed", "not_sent"));
      for (const connection of [...this.#connections]) connection.finish();
      if (this.#connections.size === 0) this.#closed();
    }
    return this.#closing;
  }

  /** For `await using client = connect(...)`. */
  [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    return this.close();
  }

  /** Gives waiting calls places on the connection, as far as there are any. */
  #pump() {
    if (this.#waiting.size === 0) return;
    if (!this.#connection) return this.#dial();
    for (const call of this.#waiting) {
      if (!this.#connection?.hasPlace) break;
      if (this.#connection.isFull) {
        // A socket does not say when it has room again.
        this.#tick ??= setTimeout(() => ((this.#tick = null), this.#pump()), BUFFERED_TICK_MS);
        break;
      }
      this.#waiting.delete(call);
      this.#connection.send(call);
    }
  }

  #dial() {
    const rests = Math.ceil(this.#restsUntil - now());
    if (rests > 0) {
      // Calls do not pile up before a server that is away.
      const { code, message, metadata } = this.#lastError;
      const again = `${message} (dialed again in ${rests} ms)`;
      return this.#failWaiting(new FarcallError(code, again, "not_sent", { metadata, cause: this.#lastError }));
    }
    const connection = new Connection(this.#url, this.#settings, {
      place: () => this.#pump(),
      leaving: (refused, why) => this.#leave(connection, refused, why),
      ended: (error, lasted) => this.#ended(connection, error, lasted),
    });
    this.#connection = connection;
    this.#connections.add(connection);
  }

  /** The server takes no more calls here; those that it refused go to another connection. */
  #leave(connection, refused, why) {
    if (this.#connection === connection) this.#connection = null;
    for (const call of refused) {
      if (this.#closing || call.tries >= MAX_TRIES) call.fail(why);
      else this.#waiting.add(call);
    }
    this.#pump();
  }

  /** @param {number} lasted milliseconds from the handshake on; negative if there was none */
  #ended(connection, error, lasted) {
    this.#connections.delete(connection);
    if (this.#connection === connection) this.#connection = null;
    this.#failures = lasted >= PROVEN_MS ? 0 : this.#failures + 1;
    // The first retry after a connection that worked is made at once.
    if (lasted < 0 || this.#failures > 1) {
      this.#lastError = error;
      this.#restsUntil = now() + backoff(this.#failures);
    }
    if (lasted < 0) this.#failWaiting(error);
    else this.#pump();
    if (this.#closing && this.#connections.size === 0) this.#closed();
  }

  #failWaiting(error) {
    for (const call of this.#waiting) call.fail(error);
    this.#waiting.clear();
  }

  /** Its time is up, or its caller has gone. */
  #giveUp(call, error) {
    if (call.connection) call.connection.cancel(call);
    this.#waiting.delete(call);
    call.fail(error);
  }
}

/** A call, from when it was made until somebody knows how it ended. */
class Call {
  /** The connection that it was sent over, and its number there. */
  connection = null;
  seq = 0;
  /** Connections that it was sent over so far. */
  tries = 0;
  #deadline = Infinity;
  #signal;
  #timer = null;
  #aborted = null;
  #resolve;
  #reject;

  constructor(method, args, { timeout, signal, metadata = {}, idempotent = false }, usualTimeout) {
    if (typeof method !== "string" || method === "") {
      throw new FarcallError("invalid_argument", "the name of a method is a text such as Arith.multiply", "not_sent");
    }
    this.method = method;
    try {
      if (typeof args !== "object") throw new TypeError("the arguments are an object, or an array");
      this.timeout = checkTimeout(timeout ?? usualTimeout);
      this.metadata = checkMetadata(metadata);
      // Now, so that what the caller does with its arguments from here on changes nothing.
      this.body = encoder.encode(encode(args));
    } catch (cause) {
      throw new FarcallError("invalid_argument", `${method}: ${cause.message}`, "not_sent", { cause });
    }
    this.flags = idempotent ? FLAG_IDEMPOTENT : 0;
    this.#signal = signal;
    if (this.timeout !== undefined) this.#deadline = now() + this.timeout;
  }

  /** Throws if there is nothing left to do. */
  checkGivenUp() {
    if (this.#signal?.aborted) throw this.#abortion();
    if (this.isLate) throw this.#lateness();
  }

  /** Less than a millisecond is left, in which nothing is sent: section 9. */
  get isLate() {
    return this.#deadline - now() < 1;
  }

  /** Its result; `giveUp` is called if the time is up, or the caller has gone, before there is one. */
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
    this.#reject(error);
  }

  /** It ended here before it was sent, for want of time. */
  failLate() {
    this.fail(this.#lateness());
  }

  #end() {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#aborted);
  }

  #lateness() {
    return new FarcallError("deadline_exceeded", `${this.method}: not within ${this.timeout} ms`, this.#execution);
  }

  #abortion() {
    const cause = this.#signal.reason;
    return new FarcallError("cancelled", `${this.method}: its caller has gone`, this.#execution, { cause });
  }

  get #execution() {
    return this.connection ? "maybe" : "not_sent";
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
  /** What the server said in its Option; null until then. */
  #terms = null;
  #readyAt = 0;
  /** The header whose body is still to come. */
  #header = null;
  /** Calls by their numbers; null where nobody waits any more. Bounded by the server's `max_in_flight`. */
  #inFlight = new Map();
  #seq = 0;
  /** Why there are no new calls here: the server's goaway, or our own. */
  #leaving = null;
  #heard = 0;
  #pinged = -1;
  /** When the server's last pings came, at most {@link MAX_PINGS}. */
  #pings = [];
  #isOpen = false;
  // A browser may keep a page that was left, with its connections, but runs nothing of it meanwhile.
  #left = () => this.#end("unavailable", "the page was left");
  #isEnded = false;

  /** @param owner told of `place`, `leaving` and `ended` */
  constructor(url, settings, owner) {
    this.#url = url;
    this.#settings = settings;
    this.#owner = owner;
    const tooLong = `no answer to the handshake within ${settings.connectTimeout} ms`;
    this.#timer = setTimeout(() => this.#end("unavailable", tooLong), Math.min(settings.connectTimeout, MAX_TIMER_MS));
    try {
      this.#socket = new settings.WebSocket(url);
    } catch (cause) {
      // From a page that was loaded by https, say. The owner is told when it knows this connection.
      queueMicrotask(() => this.#end("unavailable", `this WebSocket may not be opened: ${cause.message}`, cause));
      return;
    }
    globalThis.addEventListener?.("pagehide", this.#left);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#greet();
    this.#socket.onmessage = (event) => this.#hear(event.data);
    this.#socket.onclose = (event) => this.#end("unavailable", this.#whyClosed(event));
  }

  /** Whether it takes a call more now. */
  get hasPlace() {
    // What is written to a socket that closes goes nowhere: such calls wait for the next one.
    const isOpen = this.#terms !== null && !this.#leaving && this.#socket.readyState === OPEN;
    return isOpen && this.#inFlight.size < this.#terms.maxInFlight;
  }

  /** Whether so much is still to be written that more has to wait. */
  get isFull() {
    return this.#socket.bufferedAmount > MAX_BUFFERED_BYTES;
  }

  /** Sends a call, for which there has to be a place. What is wrong with the call fails that alone. */
  send(call) {
    if (call.isLate) return call.failLate();
    const header = encoder.encode(JSON.stringify(call.header(this.#seq + 1)));
    for (const [what, bytes, limit] of [
      ["header", header, Math.min(MAX_HEADER_BYTES, this.#terms.maxFrameBytes)],
      ["body", call.body, this.#terms.maxFrameBytes],
    ]) {
      if (bytes.length > limit) {
        const message = `${call.method}: its ${what} has ${bytes.length} bytes, and the server takes ${limit}`;
        return call.fail(new FarcallError("resource_exhausted", message, "not_sent"));
      }
    }
    this.#seq += 1;
    call.seq = this.#seq;
    call.connection = this;
    call.tries += 1;
    this.#inFlight.set(call.seq, call);
    this.#write(header, call.body);
  }

  /** Tells the server that nobody waits for a call. Its place is free only once it is answered: section 5.3. */
  cancel(call) {
    if (this.#inFlight.get(call.seq) !== call) return;
    this.#inFlight.set(call.seq, null);
    this.#writeHeader({ kind: "cancel", seq: call.seq });
  }

  /** Lets the calls under way be answered, then closes. */
  finish() {
    if (!this.#terms) return this.#end("unavailable", "the client was closed");
    if (!this.#leaving) this.#writeHeader({ kind: "goaway", seq: this.#seq });
    this.#leaving ??= "the client was closed";
    this.#closeIfDone();
  }

  /** The handshake: section 3. */
  async #greet() {
    this.#isOpen = true;
    const { token, connectTimeout, maxFrameBytes } = this.#settings;
    const option = { magic_number: MAGIC_NUMBER, version: VERSION, codec_type: CODEC };
    option.connect_timeout_ms = connectTimeout;
    option.max_frame_bytes = maxFrameBytes;
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
    if (!(data instanceof ArrayBuffer)) return this.#end("internal", "the server sent text, where only bytes may come");
    try {
      this.#frames.read(new Uint8Array(data), () => this.#limit, (frame) => this.#take(frame));
    } catch (error) {
      if (error instanceof TooLarge && this.#terms) {
        const why = { code: "resource_exhausted", message: error.message };
        this.#writeHeader({ kind: "goaway", seq: this.#seq, error: why });
      }
      this.#end("internal", `the server broke the protocol: ${error.message}`, error);
    }
  }

  /** The largest that the next frame may be. */
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
    if (option?.error) {
      const { code, message } = readError(option.error);
      return this.#end(code, `the server refused: ${message}`);
    }
    if (option?.magic_number !== MAGIC_NUMBER || option.version !== VERSION || option.codec_type !== CODEC) {
      throw new Error("its Option is not one of version 1 in JSON");
    }
    this.#terms = {
      maxFrameBytes: whole(option.max_frame_bytes, DEFAULT_MAX_FRAME_BYTES, "max_frame_bytes"),
      maxInFlight: whole(option.max_in_flight, DEFAULT_MAX_IN_FLIGHT, "max_in_flight"),
    };
    this.#readyAt = now();
    clearTimeout(this.#timer);
    this.#watch();
    this.#owner.place();
  }

  #takeMessage({ kind, seq, error, metadata, flags }, body) {
    switch (kind) {
      case "response": {
        const call = this.#inFlight.get(seq);
        if (!this.#inFlight.delete(seq)) return; // Section 5.2.
        if (call) answer(call, error, metadata ?? {}, flags, body);
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
        const refused = [...this.#inFlight].filter(([number]) => number > seq);
        for (const [number] of refused) this.#inFlight.delete(number);
        const calls = refused.map(([, call]) => call).filter((call) => call !== null);
        for (const call of calls) call.connection = null;
        const why = this.#error("unavailable", this.#leaving, "refused");
        return this.#owner.leaving(calls, why);
      }
      default:
        throw new Error(`its message is a ${escape(kind)}`);
    }
  }

  #countPing() {
    this.#pings = this.#pings.filter((time) => now() - time < PING_WINDOW_MS);
    if (this.#pings.push(now()) > MAX_PINGS) throw new Error(`more than ${MAX_PINGS} pings in ${PING_WINDOW_MS} ms`);
  }

  /** Sends a ping into a long silence, and ends what stays silent: section 13. */
  #watch() {
    const { pingAfter, pongTimeout } = this.#settings;
    const waits = () => this.#pinged > this.#heard;
    const due = () => (waits() ? this.#pinged + pongTimeout : this.#heard + pingAfter);
    if (now() >= due()) {
      if (waits()) return this.#end("unavailable", `the server was silent for ${Math.round(now() - this.#heard)} ms`);
      this.#pinged = now();
      this.#writeHeader({ kind: "ping", seq: 0 });
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
    for (let from = 0; from < bytes.length; from += MAX_MESSAGE_BYTES) {
      this.#socket.send(bytes.subarray(from, from + MAX_MESSAGE_BYTES));
    }
  }

  /** After a goaway of ours nothing is lost by closing once all is answered. */
  #closeIfDone() {
    if (this.#inFlight.size === 0) this.#end("unavailable", this.#leaving);
  }

  #end(code, why, cause) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("pagehide", this.#left);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    const calls = [...this.#inFlight.values()].filter((call) => call !== null);
    this.#inFlight.clear();
    const lasted = this.#terms ? now() - this.#readyAt : -1;
    const lost = this.#terms ? `the connection was lost: ${why}` : why;
    for (const call of calls) call.fail(this.#error("unavailable", lost, "maybe", cause));
    this.#owner.ended(this.#error(code, lost, "not_sent", cause), lasted);
  }

  #error(code, why, execution, cause) {
    return new FarcallError(code, `${this.#terms ? "" : "connecting to "}${this.#url}: ${why}`, execution, { cause });
  }

  #whyClosed({ code, reason }) {
    if (this.#leaving) return this.#leaving;
    const status = `status ${code}${reason ? `, ${escape(reason)}` : ""}`;
    if (this.#isOpen) return `the WebSocket was closed (${status})`;
    const origin = globalThis.location?.origin;
    const refused = origin ? `, or it does not allow WebSockets of pages from ${origin}` : "";
    return `the WebSocket did not open (${status}): no farcall server answers there${refused}`;
  }
}

/** Cuts what arrives into frames. How it falls into messages means nothing: section 2. */
class Frames {
  #buffer = new Uint8Array(4);
  #filled = 0;
  #isLength = true;

  /** Hands over every frame that is complete now; `limit` tells how large the next may be. */
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
        if (length > limit()) throw new TooLarge(`a frame of ${length} bytes, where ${limit()} are allowed`);
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

/** A frame over the limit. */
class TooLarge extends Error {}

/** Ends a call with the response to it. A body that does not decode is that call's own trouble. */
function answer(call, error, metadata, flags, body) {
  let value;
  let broken;
  try {
    if (flags & FLAG_COMPRESSED) throw new Error("it is compressed, which nobody asked for");
    value = body.length > 0 ? decode(decoder.decode(body)) : undefined;
  } catch (cause) {
    broken = cause;
  }
  if (error) {
    const { code, message, execution } = readError(error);
    return call.fail(new FarcallError(code, `${call.method}: ${message}`, execution, { details: value, metadata }));
  }
  if (broken) {
    const message = `${call.method}: the result does not decode: ${broken.message}`;
    return call.fail(new FarcallError("internal", message, "done", { metadata, cause: broken }));
  }
  call.succeed(value ?? null);
}

/** A header as section 4.2 wants it; throws if it is none. */
function checkHeader(header) {
  if (typeof header !== "object" || header === null || typeof header.kind !== "string") {
    throw new Error("a header without a kind");
  }
  if (!Number.isSafeInteger(header.seq) || header.seq < 0) throw new Error("a header without a number");
  return header;
}

/** An error as section 11 wants it, whatever the server sent. */
function readError({ code, message, execution }) {
  return {
    code: CODES.has(code) ? code : "internal",
    message: escape(typeof message === "string" && message ? message : String(code)),
    execution: EXECUTIONS.has(execution) ? execution : "maybe",
  };
}

/** A peer's text, cut, and with nothing in it that could disturb what it is printed on: section 11.4. */
function escape(text) {
  const { read } = encoder.encodeInto(text, new Uint8Array(MAX_TEXT_BYTES));
  const code = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;
  return text.slice(0, read).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, code);
}

/** A value as JSON: integers of any size, and bytes in base64 (section 6.3). */
function encode(value) {
  return JSON.stringify(value, function (key, value) {
    // As it was before its `toJSON`, which Node's buffers have.
    const given = this[key];
    if (given instanceof Uint8Array) return base64(given);
    if (given instanceof ArrayBuffer) return base64(new Uint8Array(given));
    if (typeof value === "bigint") {
      if (JSON.rawJSON) return JSON.rawJSON(String(value));
      if (BigInt(Number(value)) === value && Number.isSafeInteger(Number(value))) return Number(value);
      throw new TypeError(`${key}: this runtime cannot send ${value}`);
    }
    if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${key}: JSON has no ${value}`);
    return value;
  });
}

/** A value from JSON. `Number` would round integers beyond 2^53 without a word, so these become `bigint`. */
function decode(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return value;
    if (!context) throw new RangeError(`${key}: this runtime cannot read ${value} exactly`);
    return /^-?\d+$/.test(context.source) ? BigInt(context.source) : value;
  });
}

function base64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** The pause after so many failures in a row, in milliseconds. */
function backoff(failures) {
  const { first, factor, most, jitter } = BACKOFF;
  return Math.min(first * factor ** (failures - 1), most) * (1 - jitter + 2 * jitter * Math.random());
}

/** The URL of the WebSocket at an address. */
function parseAddress(address) {
  const text = String(address).replace(/^(wss?|https?)@/, "$1://");
  const wrong = (why) => new TypeError(`${JSON.stringify(String(address))} is no address for a WebSocket: ${why}`);
  if (!/^(wss?|https?):\/\//.test(text)) throw wrong("it begins with ws:// or wss://");
  if (!URL.canParse(text)) throw wrong("it is no URL");
  const url = new URL(text);
  if (url.username || url.password) throw wrong("a credential is given as `token`");
  if (url.search || url.hash) throw wrong("nothing may follow its path");
  url.protocol = url.protocol.replace("http", "ws");
  if (url.pathname === "/") url.pathname = "/_farcall_";
  return url.href;
}

/** A timeout in milliseconds; undefined if there is none. */
function checkTimeout(timeout) {
  if (timeout === undefined || timeout === null || timeout === Infinity) return undefined;
  if (typeof timeout !== "number" || Number.isNaN(timeout)) throw new TypeError("a timeout is in milliseconds");
  return timeout;
}

/** Metadata: section 10. */
function checkMetadata(metadata) {
  for (const [key, value] of Object.entries(metadata)) {
    const isKey = /^[!-@[-~]{1,256}$/.test(key);
    if (!isKey) throw new TypeError(`metadata ${JSON.stringify(key)}: a key is in lower case, of at most 256 letters`);
    if (typeof value !== "string") throw new TypeError(`metadata ${key}: a value is a text`);
  }
  return { ...metadata };
}

/** A whole number, or what stands for it where there is none. */
function whole(value, otherwise, name, least = 1) {
  if (value === undefined || value === null) return otherwise;
  if (!Number.isSafeInteger(value) || value < least) throw new TypeError(`${name} is a whole number from ${least} up`);
  return value;
}
