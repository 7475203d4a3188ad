/// <reference lib="esnext.disposable" />
/** The kind of failure; docs/PROTOCOL.md, section 11.1. */
export type Code =
  | "cancelled"
  | "deadline_exceeded"
  | "invalid_argument"
  | "unauthenticated"
  | "unimplemented"
  | "permission_denied"
  | "resource_exhausted"
  | "unavailable"
  | "internal"
  | "application";

/**
 * States whether the method may have run: `done` (it ran to its end), `refused` (the server never started
 * it), `maybe` (its state is unknown), `not_sent` (the request never left this process).
 */
export type Execution = "done" | "refused" | "maybe" | "not_sent";

/** The error of every failed call. */
export class FarcallError<Details = unknown> extends Error {
  constructor(
    code: Code,
    message: string,
    execution: Execution,
    more?: { details?: Details; metadata?: Record<string, string>; cause?: unknown },
  );
  readonly name: "FarcallError";
  /** The kind of failure. */
  readonly code: Code;
  /** States whether the method may have run. */
  readonly execution: Execution;
  /** The error that the method returned, if `code` is `application`; usually undefined otherwise. */
  readonly details: Details | undefined;
  /** The metadata of the response, such as `farcall-retry-after-ms`. */
  readonly metadata: Record<string, string>;
}

/** The options of {@link connect}. All times are in milliseconds. */
export interface ConnectOptions {
  /** A bearer credential, or a function that returns one for each connection. Default: none. */
  token?: string | (() => string | Promise<string>);
  /** The timeout of calls that set none; of streams, for their first item or result. Default: no limit. */
  timeout?: number;
  /** The time limit for opening the WebSocket and the handshake together. Default 10,000. */
  connectTimeout?: number;
  /** The size of the largest accepted frame, in bytes. Default 4 MiB. A larger answer fails its call. */
  maxFrameBytes?: number;
  /** The number of calls that may wait for a connection, or a slot on it. Default 10,000; one more fails at once. */
  maxWaiting?: number;
  /** The silence after which the server is pinged. Default 10,000; at least 1000. */
  pingAfter?: number;
  /** The silence after a ping after which the connection is dead. Default 5000. */
  pongTimeout?: number;
  /** The bytes of items that a server may send of each stream before they are taken. Default 256 KiB. */
  streamWindow?: number;
  /** The size up to which the window of one stream may grow, in bytes. Default 16 MiB. */
  maxStreamWindow?: number;
  /** The number of bytes that all windows of a connection may grow by. Default 64 MiB. */
  maxStreamGrowth?: number;
  /** The time for which an item may wait for the server's credit before its call is cancelled. Default 60,000. */
  streamStall?: number;
  /** The WebSocket class, if the runtime has none or another one is needed. Default: the global one. */
  WebSocket?: new (url: string) => unknown;
}

/** The options of one call. */
export interface CallOptions {
  /** The time limit in milliseconds, including waiting, after which the server stops the method. */
  timeout?: number;
  /** Cancels it: the method is stopped on the server. The call fails with `cancelled`. */
  signal?: AbortSignal | null;
  /** Strings for the server, with keys in lower case, such as `traceparent`. */
  metadata?: Record<string, string>;
  /** Tells the server that two calls have the same effect as one. Default false. */
  idempotent?: boolean;
  /**
   * Has the server carry the call out once, by a key, and repeats it if its connection breaks, at a server that knows of its
   * first try: up to three times in all, for two minutes. The method must be declared `once` there. `metadata` may set the
   * key, `farcall-idempotency-key`. Default false.
   */
  once?: boolean;
}

/** The options of one streaming call. `timeout` is for the whole call. */
export interface StreamOptions<Item = any> extends Omit<CallOptions, "once"> {
  /** The time limit in milliseconds until the first item or the result. Default: the timeout of the client. */
  firstWithin?: number;
  /** The time limit in milliseconds for waiting for an item after the one before. Default: no limit. */
  gap?: number;
  /**
   * Returns the arguments with which the stream goes on after the last item that was taken: when it fails with
   * `unavailable`, or when its server drains, the method is called again. Without an item, the arguments are those of the
   * first call. Up to 10 calls in a row are made without an item, with pauses from 50 ms to 5 s. The result is that of the
   * last call. Such a stream sends no items.
   */
  resume?: (last: Item) => Args;
}

/** The arguments of a method by name, or in order. */
export type Args = object | readonly unknown[];

/** A service, as `farcall.services` describes it. */
export interface ServiceDescription {
  name: string;
  doc: string;
  methods: MethodDescription[];
}

/** A method; its name does not include that of its service. */
export interface MethodDescription {
  name: string;
  doc: string;
  params: { name: string; type: string }[];
  returns: string;
  /** Two calls have the same effect as one, also at two servers. */
  idempotent: boolean;
  /** Two calls have the same effect as one only at the same server. Absent if not. */
  idempotent_at_same_server?: boolean;
  /** Calls with one key are carried out once. Absent if not. */
  once?: boolean;
  /** True if it sends or takes items. */
  streaming: boolean;
  /** The directions of its items, with their types: `in` is from the caller. Absent from servers without streams. */
  streams?: { in: boolean; out: boolean; in_type?: string; out_type?: string };
}

/** Counts and times of one method, in microseconds; the items are those of open streams, too. */
export interface MethodStats {
  name: string;
  calls: number;
  errors: number;
  in_flight: number;
  p50_us: number;
  p90_us: number;
  p99_us: number;
  max_us: number;
  items_sent: number;
  items_received: number;
}

/** The methods of a service without a description. */
export type AnyService = Record<string, (args?: Args, options?: CallOptions) => Promise<any>>;

/**
 * The type of {@link Client.service} for an interface of plain functions:
 * `interface Arith { multiply(args: { a: number; b: number }): number }`.
 */
export type ServiceOf<S> = {
  [Method in keyof S]: S[Method] extends (args: infer A) => infer Result
    ? unknown extends A
      ? (args?: Args, options?: CallOptions) => Promise<Awaited<Result>>
      : (args: A, options?: CallOptions) => Promise<Awaited<Result>>
    : never;
};

/**
 * A call whose method sends items, takes items, or both: {@link Client.stream} creates it.
 *
 * Iterating takes the items, and throws if the call fails or is cut, so that a loop that ends has seen all of them.
 * Leaving a loop early cancels the call, and so does disposing of the stream, or forgetting it, before it has ended.
 */
export class Stream<Item = any, Result = any, Sent = any> implements AsyncIterable<Item>, AsyncDisposable {
  private constructor();

  /** The final value of the method. Rejects if the call fails. */
  readonly result: Promise<Result>;

  /** True if the server drains: the stream goes on as long as the server lets it. */
  readonly isDraining: boolean;

  /** Resolved when the server drains, or the call is over. */
  readonly draining: Promise<void>;

  /**
   * Sends an item. Wait for each before the next: no more than 1 MiB may wait.
   *
   * @returns resolved when the server had granted credit for it; false if the server wants no more items, because it has
   *   answered or has said so, which is no error
   * @throws {FarcallError} if the call fails; or if the item is invalid or too large, and the call goes on
   */
  send(item: Sent): Promise<boolean>;

  /**
   * Sends the items of an iterable, and then {@link Stream.finish}es. If the iterable throws, the call is cancelled, so
   * that a part is never taken for all.
   *
   * @returns the final value
   */
  sendAll(items: Iterable<Sent> | AsyncIterable<Sent>): Promise<Result>;

  /** Says that no more items come, once those that wait are sent, and returns the final value. */
  finish(): Promise<Result>;

  /** Takes no more items: those that arrive are dropped, and the iteration ends. The call goes on. */
  stop(): void;

  /** Cancels the call: the method is stopped on the server. Without effect on a call that has ended. */
  cancel(reason?: unknown): void;

  /** Iterates over the items. All iterators share them. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item>;

  /** Cancels the call if it has not ended. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Calls methods of one server over one connection at a time. {@link connect} creates it. */
export class Client {
  constructor(address: string | URL, options?: ConnectOptions);

  /**
   * Calls a method, and returns its result. Integers beyond `Number.MAX_SAFE_INTEGER` are returned and sent as
   * `bigint`, and beyond 64 bits as text; a `Uint8Array` or `ArrayBuffer` among the arguments is sent as bytes. A value
   * that JSON would lose, such as a `Map` or `NaN`, fails the call with `invalid_argument`.
   *
   * @throws {FarcallError} if the call fails
   */
  call<Result = any>(method: string, args?: Args, options?: CallOptions): Promise<Result>;

  /**
   * Calls a method that sends or takes items, or both. The client's timeout applies to the time until the first item
   * or the result.
   *
   * @throws {FarcallError} if the call cannot begin, such as for an invalid argument; later errors end the stream
   */
  stream<Item = any, Result = any, Sent = any>(
    method: string,
    args?: Args,
    options?: StreamOptions<Item>,
  ): Stream<Item, Result, Sent>;

  /**
   * Returns the methods of a service as functions. Names that the language asks for by itself, such as `toString` and
   * `then`, are none: use {@link Client.call}.
   */
  service(name: string): AnyService;
  service<S extends object>(name: string): ServiceOf<S>;

  /** Returns the services of the server and their methods. */
  services(options?: CallOptions): Promise<ServiceDescription[]>;

  /** Returns the status of the server, or of a service. */
  health(service?: string, options?: CallOptions): Promise<{ status: "serving" | "draining" }>;

  /** Returns counts and latencies of each method, for the whole server. */
  stats(options?: CallOptions): Promise<MethodStats[]>;

  /** Accepts no more calls, fails those that were not sent yet, and resolves when the others are answered. */
  close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Creates a client of the server at an address. It connects at the first call, and reconnects if the
 * connection is lost.
 *
 * @param address `ws://host:port` or `wss://host:port`, also `ws@host:port`; `http` and `https` stand for these.
 *   Default of the path: `/_farcall_`.
 * @throws {TypeError} if the address or an option is invalid
 */
export function connect(address: string | URL, options?: ConnectOptions): Client;
