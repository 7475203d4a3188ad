// Functions for the tests' scripts, on any page.

import * as farcall from "/farcall.js";

const { connect, FarcallError } = farcall;

/** Returns the error of a call in a form that JSON can carry. */
export async function failure(promise) {
  try {
    return { unexpected: await promise };
  } catch (error) {
    if (!(error instanceof FarcallError)) return { foreign: String(error) };
    const { code, execution, message, details, cause } = error;
    return { code, execution, message, details, cause: cause === undefined ? undefined : String(cause) };
  }
}

/** Waits until the condition holds. */
export async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** A WebSocket that delivers messages in pieces of `size` bytes, joins them first if `joins`, and counts them. */
export function cutting(size, joins) {
  return class extends WebSocket {
    static opened = 0;
    static messages = 0;
    static largestSent = 0;
    #held = [];

    constructor(url) {
      super(url);
      new.target.opened += 1;
      super.onmessage = ({ data }) => this.#hold(new Uint8Array(data));
    }

    set onmessage(listener) {
      this.listener = listener;
    }

    send(data) {
      this.constructor.largestSent = Math.max(this.constructor.largestSent, data.byteLength);
      super.send(data);
    }

    #hold(bytes) {
      this.#held.push(bytes);
      // Bytes that arrive within 100 ms are delivered as one message.
      if (!joins) return this.#deliver();
      if (this.#held.length === 1) setTimeout(() => this.#deliver(), 100);
    }

    #deliver() {
      const bytes = new Uint8Array(this.#held.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const part of this.#held.splice(0)) {
        bytes.set(part, at);
        at += part.length;
      }
      for (let from = 0; from < bytes.length; from += size) {
        this.constructor.messages += 1;
        this.listener?.({ data: bytes.slice(from, from + size).buffer });
      }
    }
  };
}

/** Returns the bytes of frames, each given as text, bytes, or a value that is encoded as JSON. */
function framed(...frames) {
  const parts = frames.flatMap((frame) => {
    const text = typeof frame === "string" ? frame : JSON.stringify(frame);
    const bytes = frame instanceof Uint8Array ? frame : new TextEncoder().encode(text);
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, bytes.length);
    return [...length, ...bytes];
  });
  return new Uint8Array(parts);
}

/**
 * A WebSocket to a fake server: `answer(socket, header, body)` receives the client's messages, and answers with
 * `socket.respond(header, body)`, or with `socket.deliver(bytes)` to send invalid bytes.
 */
export function fakeServer(answer, terms = {}) {
  return class {
    static opened = 0;
    static received = [];
    /** The client's Options. */
    static options = [];
    readyState = 0;
    bufferedAmount = 0;
    #frames = [];
    #isNegotiated = false;

    constructor() {
      this.number = ++this.constructor.opened;
      setTimeout(() => {
        this.readyState = 1;
        this.onopen();
      });
    }

    send(data) {
      // The client writes whole messages, which are small here.
      for (let at = 0; at < data.length; ) {
        const length = new DataView(data.buffer, data.byteOffset + at).getUint32(0);
        this.#frames.push(new TextDecoder().decode(data.subarray(at + 4, at + 4 + length)));
        at += 4 + length;
      }
      if (!this.#isNegotiated) {
        const option = JSON.parse(this.#frames.shift());
        const { magic_number, version, codec_type } = option;
        this.constructor.options.push(option);
        this.#isNegotiated = true;
        const defaults = { max_frame_bytes: 65536, max_in_flight: 16 };
        this.deliver(framed({ magic_number, version, codec_type, ...defaults, ...terms }));
      }
      while (this.#frames.length >= 2) {
        const [header, body] = this.#frames.splice(0, 2);
        this.constructor.received.push(header);
        answer(this, JSON.parse(header), body);
      }
    }

    respond(header, body = "") {
      this.deliver(framed(header, body));
    }

    deliver(bytes) {
      setTimeout(() => this.onmessage?.({ data: bytes.buffer ?? bytes }));
    }

    close() {
      this.readyState = 3;
      this.isClosed = true;
    }
  };
}

/**
 * A fake server with streams that answers nothing by itself. The test says what it sends, which arrives at once:
 * `server.says({ kind: "item", seq: 1 }, 5)`.
 */
export function streamingServer(terms = {}) {
  const agreed = { features: ["streams"], stream_window: 1000, max_streams: 8, ...terms };
  const server = {
    messages: [],
    sockets: [],
    Socket: fakeServer((socket, header, body) => {
      server.messages.push({ ...header, body });
      if (!server.sockets.includes(socket)) server.sockets.push(socket);
    }, agreed),
    /** Opens a client, and waits for its handshake. */
    async client(options = {}) {
      const client = connect("ws://127.0.0.1:1", { WebSocket: server.Socket, ...options });
      // Whatever the timeout of the client is.
      const health = client.health(undefined, { timeout: Infinity });
      await until(() => server.messages.length > 0);
      server.says({ kind: "response", seq: server.messages.pop().seq });
      await health;
      return client;
    },
    /** The client's messages of a kind; the first requests are for the handshake. */
    of: (kind) => server.messages.filter((message) => message.kind === kind),
    says(header, body = "") {
      server.sockets.at(-1).onmessage({ data: framed(header, body).buffer });
    },
    item: (seq, value, flags) => server.says({ kind: "item", seq, flags }, JSON.stringify(value)),
    credit: (seq, limit) => server.says({ kind: "credit", seq }, String(limit)),
    responds: (seq, value, error) => server.says({ kind: "response", seq, error }, JSON.stringify(value) ?? ""),
    /** Ends the connection, as a network does. */
    cut: () => server.sockets.at(-1).onclose({ code: 1006, reason: "" }),
  };
  return server;
}

/** Takes all items of a stream, and the error that its loop throws. */
export async function items(stream) {
  const taken = [];
  try {
    for await (const item of stream) taken.push(item);
  } catch (error) {
    return [taken, await failure(Promise.reject(error))];
  }
  return [taken, null];
}

/** Lets everything run that is ready. */
export async function settle() {
  for (let n = 0; n < 20; n++) await Promise.resolve();
}

/** Runs an example, and returns the lines that it prints. */
export async function run(url) {
  const lines = [];
  const original = console.log;
  const text = (value) => {
    if (typeof value === "bigint") return `${value}n`;
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  console.log = (...values) => lines.push(values.map(text).join(" "));
  try {
    await import(url);
  } finally {
    console.log = original;
  }
  return lines;
}

Object.assign(globalThis, { connect, FarcallError, farcall, failure, until, cutting, framed, fakeServer, run });
Object.assign(globalThis, { streamingServer, items, settle });
