/**
 * A client of farcall servers, for browsers and other runtimes with WebSockets. It consists of this file, without
 * dependencies and without a build step.
 *
 * It speaks version 1 of the wire protocol (docs/PROTOCOL.md, whose sections the comments name) in JSON, over
 * the binary messages of a WebSocket, without compression and streams.
 *
 * @module farcall
 */

const MAGIC_NUMBER = 0xcafebabe;
const VERSION = 1;
const CODEC = "application/json";

const MAX_OPTION_BYTES = 4 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_TEXT_BYTES = 1024; // The limit of a peer's text in output: section 11.4.
const DEFAULT_MAX_FRAME_BYTES = 4 * 1024 * 1024;
const DEFAULT_MAX_IN_FLIGHT = 1024;

/** The size limit of a WebSocket message: servers refuse large ones, and some hold each whole. */
const MAX_MESSAGE_BYTES = 64 * 1024;
/** The number of unsent bytes in the socket above which further calls wait. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
/** The interval of checking the unsent bytes. */
const BUFFERED_TICK_MS = 10;
/** The number of connections that a call is tried on if its server refuses it in a goaway. */
const MAX_TRIES = 3;
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
  /** The calls that wait for a slot on a connection, in order. Bounded by `maxWaiting`. */
  #waiting = new Set();
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
    return new Proxy(Object.freeze({ [Symbol.toStringTag]: `farcall service ${name}` }), { get: functionOf });
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

  /** Sends waiting calls while the connection has free slots. */
  #pump() {
    if (this.#waiting.size === 0) return;
    if (!this.#connection) return this.#dial();
    for (const call of this.#waiting) {
      if (!this.#connection?.hasPlace) break;
      if (this.#connection.isFull) {
        // A WebSocket has no event for this.
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
      // Fail at once, so that calls do not pile up while the server is unreachable.
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

  /** Handles a connection that accepts no more calls: refused calls go to another connection. */
  #leave(connection, refused, why) {
    if (this.#connection === connection) this.#connection = null;
    for (const call of refused) {
      if (this.#closing || call.tries >= MAX_TRIES) call.fail(why);
      else this.#waiting.add(call);
    }
    this.#pump();
  }

  /** @param {number} lasted milliseconds since the handshake; negative if there was none */
  #ended(connection, error, lasted) {
    this.#connections.delete(connection);
    if (this.#connection === connection) this.#connection = null;
    this.#failures = lasted >= MIN_HEALTHY_UPTIME_MS ? 0 : this.#failures + 1;
    // The first retry after a healthy connection is made at once.
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

  /** Ends a call whose deadline has passed or whose caller gave up. */
  #giveUp(call, error) {
    if (call.connection) call.connection.cancel(call);
    this.#waiting.delete(call);
    call.fail(error);
  }
}

/** A call, from its start to its outcome. */
class Call {
  /** The connection that it was sent over; `seq` is its number there. */
  connection = null;
  seq = 0;
  /** The number of connections that it was sent over. */
  tries = 0;
  #deadline = Infinity;
  #signal;
  #timer = null;
  #aborted = null;
  #resolve;
  #reject;

  constructor(method, args, { timeout, signal, metadata = {}, idempotent = false }, usualTimeout) {
    // Half of a surrogate pair in a header would end the connection, with all of its calls.
    if (typeof method !== "string" || method === "" || !isWellFormed(method)) {
      throw new FarcallError("invalid_argument", "the name of a method is a string such as Arith.multiply", "not_sent");
    }
    this.method = method;
    try {
      if (typeof args !== "object") throw new TypeError("the arguments are an object, or an array");
      this.timeout = checkTimeout(timeout ?? usualTimeout);
      this.metadata = checkMetadata(metadata);
      // Now, so that later changes by the caller have no effect.
      this.body = encoder.encode(encode(args));
    } catch (cause) {
      throw new FarcallError("invalid_argument", `${method}: ${cause.message}`, "not_sent", { cause });
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
    this.#reject(error);
  }

  /** Fails a call whose deadline passed before it was sent. */
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
    return new FarcallError("cancelled", `${this.method}: its caller gave up`, this.#execution, { cause });
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
  /** The terms of the server's Option; null before the handshake is complete. */
  #terms = null;
  #readyAt = 0;
  /** The header whose body is still to come. */
  #header = null;
  /** Calls by number; null for cancelled calls. Bounded by the server's `max_in_flight`. */
  #inFlight = new Map();
  #seq = 0;
  /** The reason for refusing new calls: the server's goaway, or our own. */
  #leaving = null;
  #heard = 0;
  #pinged = -1;
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
    // A closing socket discards what is written: such calls wait for the next connection.
    const isOpen = this.#terms !== null && !this.#leaving && this.#socket.readyState === OPEN;
    return isOpen && this.#inFlight.size < this.#terms.maxInFlight;
  }

  /** True if so many bytes are unsent that further calls wait. */
  get isFull() {
    return this.#socket.bufferedAmount > MAX_BUFFERED_BYTES;
  }

  /** Sends a call; requires a free slot. An invalid call fails alone. */
  send(call) {
    if (call.isLate) return call.failLate();
    const header = encoder.encode(JSON.stringify(call.header(this.#seq + 1)));
    for (const [what, bytes, limit] of [
      ["header", header, Math.min(MAX_HEADER_BYTES, this.#terms.maxFrameBytes)],
      ["body", call.body, this.#terms.maxFrameBytes],
    ]) {
      if (bytes.length > limit) {
        const over = `over the server's limit of ${limit} bytes (its max_frame_bytes)`;
        const message = `${call.method}: its ${what} of ${bytes.length} bytes is ${over}`;
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

  /** Cancels a call on the server. Its slot is free once it is answered: section 5.3. */
  cancel(call) {
    if (this.#inFlight.get(call.seq) !== call) return;
    this.#inFlight.set(call.seq, null);
    this.#writeHeader({ kind: "cancel", seq: call.seq });
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
    if (!(data instanceof ArrayBuffer)) return this.#end("internal", "the server sent text instead of bytes");
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

  /** Pings a silent server, and closes the connection if it stays silent: section 13. */
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

  /** Closes after our own goaway once all calls are answered. */
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

/** Completes a call with its response. A body that does not decode fails only that call. */
function answer(call, error, metadata, flags, body) {
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
    return call.fail(new FarcallError(code, `${call.method}: ${message}`, execution, { details: value, metadata }));
  }
  if (broken) {
    const message = `${call.method}: the result does not decode: ${broken.message}`;
    return call.fail(new FarcallError("internal", message, "done", { metadata, cause: broken }));
  }
  call.succeed(value ?? null);
}

/** Returns a valid header of section 4.2; throws otherwise. */
function checkHeader(header) {
  if (typeof header !== "object" || header === null || typeof header.kind !== "string") {
    throw new Error("a header without a kind");
  }
  if (!Number.isSafeInteger(header.seq) || header.seq < 0) throw new Error("a header without a number");
  return header;
}

/** Returns a valid error of section 11, whatever the server sent. */
function readError({ code, message, execution }) {
  return {
    code: CODES.has(code) ? code : "internal",
    message: escape(typeof message === "string" && message ? message : String(code)),
    execution: EXECUTIONS.has(execution) ? execution : "maybe",
  };
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
      throw new TypeError(`${key === "" ? "the value" : escape(key)}: ${why}`);
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
  return refuse(`this runtime cannot send ${value}`);
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
    if (!context) throw new RangeError(`${key}: this runtime cannot read ${value} exactly`);
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

/** Returns a checked timeout in milliseconds; undefined if there is none. */
function checkTimeout(timeout) {
  if (timeout === undefined || timeout === null || timeout === Infinity) return undefined;
  if (typeof timeout !== "number" || Number.isNaN(timeout)) throw new TypeError("a timeout is in milliseconds");
  // JSON would not carry it as a whole number.
  return timeout > Number.MAX_SAFE_INTEGER ? undefined : timeout;
}

/** Returns a checked copy of metadata: section 10. */
function checkMetadata(metadata) {
  for (const [key, value] of Object.entries(metadata)) {
    const isKey = /^[!-@[-~]{1,256}$/.test(key);
    if (!isKey) throw new TypeError(`metadata ${JSON.stringify(key)}: a key is in lower case, of at most 256 letters`);
    if (typeof value !== "string" || !isWellFormed(value)) throw new TypeError(`metadata ${key}: a value is a text`);
  }
  return { ...metadata };
}

/** Returns a checked integer, or the default if there is none. */
function whole(value, fallback, name, min = 1) {
  if (value === undefined || value === null) return fallback;
  if (!Number.isSafeInteger(value) || value < min) throw new TypeError(`${name} is a whole number from ${min} up`);
  return value;
}
