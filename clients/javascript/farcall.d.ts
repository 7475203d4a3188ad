/// <reference lib="esnext.disposable" />
/** What kind of failure it is; docs/PROTOCOL.md, section 11.1. */
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
 * Whether the work may have been done: `done` (the method ran to its end), `refused` (the server never started
 * it), `maybe` (nobody can know), `not_sent` (it never left this process).
 */
export type Execution = "done" | "refused" | "maybe" | "not_sent";

/** What every call that fails rejects with, whatever the reason. */
export class FarcallError<Details = unknown> extends Error {
  constructor(
    code: Code,
    message: string,
    execution: Execution,
    more?: { details?: Details; metadata?: Record<string, string>; cause?: unknown },
  );
  readonly name: "FarcallError";
  /** What kind of failure it is. */
  readonly code: Code;
  /** Whether the work may have been done. */
  readonly execution: Execution;
  /** The error that the method returned, where `code` is `application`; otherwise mostly undefined. */
  readonly details: Details | undefined;
  /** What the server sent along, such as `farcall-retry-after-ms`. */
  readonly metadata: Record<string, string>;
}

/** How to connect. All times are in milliseconds. */
export interface ConnectOptions {
  /** A bearer credential, or a function that gives one for each connection. Default: none. */
  token?: string | (() => string | Promise<string>);
  /** What a call may take that says nothing else. Default: no limit. */
  timeout?: number;
  /** What opening the WebSocket and the handshake may take together. Default 10,000. */
  connectTimeout?: number;
  /** The largest frame that is accepted, in bytes. Default 4 MiB. An answer that is larger fails its call. */
  maxFrameBytes?: number;
  /** Calls that may wait for a connection, or a place on it. Default 10,000; one more fails at once. */
  maxWaiting?: number;
  /** The silence after which the server is pinged. Default 10,000; at least 1000. */
  pingAfter?: number;
  /** The silence after a ping by which the connection is dead. Default 5000. */
  pongTimeout?: number;
  /** The class to use where the runtime has none, or not the right one. Default: the global one. */
  WebSocket?: new (url: string) => unknown;
}

/** How to make one call. */
export interface CallOptions {
  /** What it may take, in milliseconds, waiting included. It travels to the server, which stops the method. */
  timeout?: number;
  /** Cancels it: the method is stopped on the server. The call fails with `cancelled`. */
  signal?: AbortSignal | null;
  /** Strings for the server by keys in lower case, such as `traceparent`. */
  metadata?: Record<string, string>;
  /** Tells the server and what is on the way that doing it twice is as good as once. Default false. */
  idempotent?: boolean;
}

/** The arguments of a method by name, or in their order. */
export type Args = object | readonly unknown[];

/** A service that `farcall.services` tells of. */
export interface ServiceDescription {
  name: string;
  doc: string;
  methods: MethodDescription[];
}

/** A method of it; its name is without that of the service. */
export interface MethodDescription {
  name: string;
  doc: string;
  params: { name: string; type: string }[];
  returns: string;
  idempotent: boolean;
  streaming: boolean;
}

/** Counts and times of one method, in microseconds. */
export interface MethodStats {
  name: string;
  calls: number;
  errors: number;
  in_flight: number;
  p50_us: number;
  p90_us: number;
  p99_us: number;
  max_us: number;
}

/** The methods of a service nobody described. */
export type AnyService = Record<string, (args?: Args, options?: CallOptions) => Promise<any>>;

/**
 * What {@link Client.service} gives for an interface of plain functions:
 * `interface Arith { multiply(args: { a: number; b: number }): number }`.
 */
export type ServiceOf<S> = {
  [Method in keyof S]: S[Method] extends (args: infer A) => infer Result
    ? unknown extends A
      ? (args?: Args, options?: CallOptions) => Promise<Awaited<Result>>
      : (args: A, options?: CallOptions) => Promise<Awaited<Result>>
    : never;
};

/** Calls methods of one server over one connection at a time. Made by {@link connect}. */
export class Client {
  constructor(address: string | URL, options?: ConnectOptions);

  /**
   * Calls a method, and gives its result. Integers beyond `Number.MAX_SAFE_INTEGER` come as `bigint`, and are
   * sent as such; a `Uint8Array` or `ArrayBuffer` among the arguments is sent as bytes.
   *
   * @throws {FarcallError} however it fails
   */
  call<Result = any>(method: string, args?: Args, options?: CallOptions): Promise<Result>;

  /** The methods of a service as functions. */
  service(name: string): AnyService;
  service<S extends object>(name: string): ServiceOf<S>;

  /** What can be called there. */
  services(options?: CallOptions): Promise<ServiceDescription[]>;

  /** How the server is, or a service of it. */
  health(service?: string, options?: CallOptions): Promise<{ status: "serving" | "draining" }>;

  /** Counts and times of each method, for the whole server. */
  stats(options?: CallOptions): Promise<MethodStats[]>;

  /** Takes no more calls, fails those that were not sent yet, and resolves when those under way are answered. */
  close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * A client of the server at an address. It connects at the first call, and again when that broke.
 *
 * @param address `ws://host:port` or `wss://host:port`, also `ws@host:port`; `http` and `https` stand for these.
 *   Without a path of its own it gets `/_farcall_`.
 * @throws {TypeError} if the address is none, or an option is not what it should be
 */
export function connect(address: string | URL, options?: ConnectOptions): Client;
