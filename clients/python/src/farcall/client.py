"""The client: connects, calls methods, and reconnects."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Callable, NoReturn, Union, cast

from .address import Address
from .backoff import Backoff
from .calls import Request
from .codec import Codec, codec_named
from .connection import Connection
from .deadline import Deadline
from .dialer import Dialer
from .directions import Exchange, ItemStream, Upload
from .errors import FarcallError, InvalidArgument, ResourceExhausted, Unavailable, short
from .handshake import Terms
from .reserved import Health, MethodStats, ServiceDescription
from .resume import Resume
from .retries import Attempts, RetryBudget
from .service import Service
from .settings import (
    CLIENT_DEFAULT,
    ClientDefault,
    Settings,
    Timeout,
    Token,
    checked_metadata,
    checked_timeout,
)
from .streaming import StreamLimits
from .tls import Tls
from .windows import CLIENT_MAX_STREAM_GROWTH, CLIENT_MAX_STREAM_WINDOW, CLIENT_STREAM_WINDOW
from .wire import DEFAULT_MAX_FRAME_BYTES, FLAG_IDEMPOTENT

#: The arguments of a method, by name or in order.
Args = Union[Mapping[str, Any], Sequence[Any]]


def connect(
    address: str,
    *,
    codec: str = "json",
    token: Token | None = None,
    tls: Tls | None = None,
    timeout: float | None = None,
    connect_timeout: float = 10.0,
    handle_timeout: float | None = None,
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    max_waiting: int = 10_000,
    ping_after: float = 10.0,
    ping_timeout: float = 5.0,
    stream_window: int = CLIENT_STREAM_WINDOW,
    max_stream_window: int = CLIENT_MAX_STREAM_WINDOW,
    max_stream_growth: int = CLIENT_MAX_STREAM_GROWTH,
    stream_stall: float = 60.0,
) -> Client:
    """Returns a client of the server at an address: ``async with farcall.connect(...) as client``.

    All times are in seconds.

    address: ``tcp@host:port`` or ``host:port``, ``unix@/path``, ``tls@host:port``,
        ``http@host:port`` or ``https@host:port``.
    codec: ``"json"``, or ``"msgpack"``, which needs the package of that name.  With JSON,
        bytes are sent and returned as base64 strings.
    token: a bearer credential, or a function that returns one for each connection; it may
        be a coroutine function.
    tls: the trusted authorities, and a client certificate.  Default: the system's authorities.
    timeout: the timeout of calls that set none.  Default: no limit.
    connect_timeout: the time limit from the first packet to the end of the handshake.
    handle_timeout: requests a time limit for methods from the server.  Default: the server's.
    max_frame_bytes: the size of the largest answer.  A larger one fails its call.
    max_waiting: the number of calls that may wait for a connection, or for a slot on it; one
        more fails at once with `ResourceExhausted`.
    ping_after: the silence after which the server is pinged.
    ping_timeout: the further silence after which the connection is dead.
    stream_window: the bytes of items that a server may send to each stream before some are taken.
    max_stream_window: the bytes to which that grows for a stream that is held back by it.
    max_stream_growth: the bytes that all streams of a connection may grow by.
    stream_stall: the time for which an item that is sent may wait for the server to take others.

    Raises ValueError or TypeError for invalid arguments, and ImportError if the package of a codec
    is missing.
    """
    settings = Settings(
        token=token,
        tls=tls or Tls(),
        timeout=timeout,
        connect_timeout=connect_timeout,
        handle_timeout=handle_timeout,
        max_frame_bytes=max_frame_bytes,
        max_waiting=max_waiting,
        ping_after=ping_after,
        ping_timeout=ping_timeout,
        stream_window=stream_window,
        max_stream_window=max_stream_window,
        max_stream_growth=max_stream_growth,
        stream_stall=stream_stall,
    )
    return Client(Address.parse(address), codec_named(codec), settings)


class Client:
    """Calls methods of one server.  `connect` creates a client.

    All calls share one connection.  If the connection is lost, the next call connects
    again.  While the server cannot be reached, calls fail at once, and the server is
    dialed again after a pause of a second, which grows up to two minutes.

    Any number of tasks of one event loop may use it at the same time.  When that loop has
    ended, as that of ``asyncio.run`` does, it connects again in the next.
    """

    def __init__(self, address: Address, codec: Codec, settings: Settings) -> None:
        self.address = address
        self._codec = codec
        self._settings = settings
        self._backoff = Backoff()
        self._budget = RetryBudget()
        self._last_error: FarcallError = Unavailable("")
        self._terms: Terms | None = None
        # The connection for new calls; `_connections` also has those that finish their calls.
        self._current: Connection | None = None
        self._connections: set[Connection] = set()
        self._dialing: asyncio.Task[Connection | FarcallError] | None = None
        self._waiting_for_dial = 0
        self._dialer = Dialer(address, codec, settings)
        # The event loop of the connections.
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<farcall.Client of {short(str(self.address))}>"

    def __reduce__(self) -> NoReturn:
        # Copies would share a connection that only one of them knows of.
        raise TypeError("a client cannot be copied or pickled: connect another one")

    # Calling

    async def call(
        self,
        method: str,
        args: Args | None = None,
        /,
        *,
        timeout: Timeout = CLIENT_DEFAULT,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        once: bool = False,
        **named: Any,
    ) -> Any:
        """Calls a method such as ``"Arith.multiply"``, and returns its result.

        The arguments are given by name: ``call("Arith.multiply", a=6, b=7)``.  Arguments
        with the name of an option below are given in a dict, as ``args``; a list instead
        contains the arguments in order.

        timeout: the time limit in seconds, including waiting and connecting, after
            which the server stops the method.  None is no limit.
        metadata: strings for the server, with keys in lower case.
        idempotent: tells the server that two calls have the same effect as one.
        once: has the server carry the call out once, by a key, and repeats the call if its
            connection breaks, at a server that knows of its first try.  The method must be
            declared ``once`` there.  Metadata may set ``farcall-idempotency-key``.

        A call that the server refuses with a time to wait for is made again then, up to three
        times in all, if its timeout leaves room.

        If the task that awaits it is cancelled, the method is stopped on the server.
        Raises a `FarcallError`; see its ``code`` and ``execution``.
        """
        request = self._request(method, args, named, timeout, metadata, idempotent)
        if once:
            request.carry_out_once()
        return await self._attempts(request).run(lambda connection: connection.call(request))

    async def notify(
        self,
        method: str,
        args: Args | None = None,
        /,
        *,
        timeout: Timeout = CLIENT_DEFAULT,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        **named: Any,
    ) -> None:
        """Calls a method one-way: its outcome is not reported.

        Returns when the request is handed to the operating system, so that it is not lost if the
        program ends then, and has the parameters of `call`.
        """
        request = self._request(method, args, named, timeout, metadata, idempotent)
        await self._attempts(request).run(lambda connection: connection.notify(request))

    def stream(
        self,
        method: str,
        args: Args | None = None,
        /,
        *,
        timeout: float | None = None,
        first_within: Timeout = CLIENT_DEFAULT,
        gap: float | None = None,
        resume: Callable[[Any], Args] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        **named: Any,
    ) -> ItemStream[Any, Any]:
        """Returns the items of a streaming method: ``async for item in client.stream(...)``.

        The call begins with the first item that is asked for, or with ``async with``.  Its
        arguments are those of `call`.

        timeout: the time limit of the whole call.  Default: none, also if the client has one.
        first_within: the time limit for the first item or the response.  Default: the client's
            timeout.
        gap: the time limit for an item after the one before, which counts while the
            caller waits.  Default: none.
        resume: a function from the last item that was taken to the arguments of another call,
            with which the stream goes on when its server stops or is lost.  Default: it ends.
        """
        limits = self._limits(timeout, first_within, gap)
        request = self._request(method, args, named, None, metadata, idempotent)
        if resume is None:
            return ItemStream(self._attempts, self._codec, request, limits)
        arguments = resume

        def body(item: Any) -> bytes:
            return self._request(method, arguments(item), {}, None, None, False).body

        goes_on = Resume(request.body, body, lambda: self._dialer.is_closed)
        return ItemStream(self._attempts, self._codec, request, limits, goes_on)

    def upload(
        self,
        method: str,
        args: Args | None = None,
        /,
        *,
        timeout: float | None = None,
        first_within: Timeout = CLIENT_DEFAULT,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        **named: Any,
    ) -> Upload[Any, Any]:
        """Calls a method that takes items: ``async with client.upload(...) as upload``.

        Has the parameters of `stream`.  Most methods that take items send none: then
        ``first_within`` lasts until the response.
        """
        limits = self._limits(timeout, first_within, None)
        request = self._request(method, args, named, None, metadata, idempotent)
        return Upload(self._attempts, self._codec, request, limits)

    def exchange(
        self,
        method: str,
        args: Args | None = None,
        /,
        *,
        timeout: float | None = None,
        first_within: Timeout = CLIENT_DEFAULT,
        gap: float | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        **named: Any,
    ) -> Exchange[Any, Any, Any]:
        """Calls a method that takes and sends items: ``async with client.exchange(...) as both``.

        Has the parameters of `stream`.
        """
        limits = self._limits(timeout, first_within, gap)
        request = self._request(method, args, named, None, metadata, idempotent)
        return Exchange(self._attempts, self._codec, request, limits)

    def service(self, name: str) -> Service:
        """Returns the methods of a service: ``client.service("Arith").multiply(a=6, b=7)``."""
        return Service(self, name)

    async def services(self, *, timeout: Timeout = CLIENT_DEFAULT) -> list[ServiceDescription]:
        """Returns the services of the server and their methods."""
        answer = await self.call("farcall.services", timeout=timeout)
        return cast(list[ServiceDescription], answer)

    async def health(
        self, service: str | None = None, *, timeout: Timeout = CLIENT_DEFAULT
    ) -> Health:
        """Returns the status of the server, or of that service."""
        args = None if service is None else {"service": service}
        return cast(Health, await self.call("farcall.health", args, timeout=timeout))

    async def stats(self, *, timeout: Timeout = CLIENT_DEFAULT) -> list[MethodStats]:
        """Returns counts and latencies of each method, for the whole server."""
        return cast(list[MethodStats], await self.call("farcall.stats", timeout=timeout))

    async def ping(self, timeout: float = 5.0) -> float:
        """Pings the server, and returns the seconds until its answer.

        It waits first if many pings were sent lately, because servers limit their rate.
        """
        limit = checked_timeout("timeout", timeout)
        connection = await self._connected(Deadline(limit))
        return await connection.ping(limit)

    # Connecting

    async def connect(self) -> None:
        """Connects now rather than at the first call."""
        await self._connected(Deadline(None))

    @property
    def in_flight(self) -> int:
        """The number of calls in flight, including cancelled ones without an answer."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def terms(self) -> Terms | None:
        """The terms that the server stated at the last connection; None before that."""
        return self._terms

    async def close(self, timeout: float = 5.0) -> None:
        """Accepts no more calls, waits until those in flight are answered, and closes.

        Calls without an answer after the timeout, in seconds, fail as `Unavailable`, ``maybe``.
        """
        limit = checked_timeout("timeout", timeout)
        self._dialer.is_closed = True
        self._enter_loop()
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait({self._dialing})
        connections = list(self._connections)
        await asyncio.gather(*(connection.close(limit) for connection in connections))

    async def flush(self) -> None:
        """Waits until all that was sent is handed to the operating system."""
        self._enter_loop()
        connections = list(self._connections)
        await asyncio.gather(*(connection.flush(Deadline(None)) for connection in connections))

    def abort(self) -> None:
        """Closes at once.  Calls in flight fail as `Unavailable`, ``maybe``."""
        self._dialer.is_closed = True
        if self._loop is not None and self._loop.is_closed():
            self._forget()
        if self._dialing is not None:
            self._dialing.cancel()
        for connection in list(self._connections):
            connection.abort()

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Client]:
        """``client = await farcall.connect(...)``, without closing it automatically."""
        return self.__aenter__().__await__()

    def _request(
        self,
        method: str,
        args: Args | None,
        named: Mapping[str, Any],
        timeout: Timeout,
        metadata: Mapping[str, str] | None,
        idempotent: bool,
    ) -> Request:
        if not isinstance(method, str) or not method:
            raise TypeError("a method is a str such as 'Arith.multiply'")
        if args is not None and named:
            raise TypeError(
                "the arguments are given by name, or in one value, and not in both ways"
            )
        if args is not None and not isinstance(args, (Mapping, list, tuple)):
            raise TypeError(f"the arguments are a dict or a list, not {type(args).__name__}")
        value = named or (dict(args) if isinstance(args, Mapping) else args)
        if isinstance(timeout, ClientDefault):
            timeout = self._settings.timeout
        deadline = Deadline(checked_timeout("timeout", timeout))
        flags = FLAG_IDEMPOTENT if idempotent else 0
        request = Request(method, b"", deadline, checked_metadata(metadata), flags)
        if value is not None:
            # Now, so that later changes by the caller have no effect.
            try:
                request.body = self._codec.encode(value)
            except (ValueError, TypeError, OverflowError, RecursionError) as cause:
                error = InvalidArgument(f"the arguments cannot be encoded: {cause}")
                error.method = method
                raise error from cause
        return request

    def _limits(
        self, timeout: float | None, first_within: Timeout, gap: float | None
    ) -> StreamLimits:
        if isinstance(first_within, ClientDefault):
            first_within = self._settings.timeout
        return StreamLimits(
            checked_timeout("timeout", timeout),
            checked_timeout("first_within", first_within),
            checked_timeout("gap", gap),
            self._settings.stream_stall,
        )

    def _attempts(self, request: Request) -> Attempts:
        """Counts a call, and returns its tries, of which none is made yet."""
        return Attempts(request, self._budget, self._connected)

    async def _connected(self, deadline: Deadline) -> Connection:
        """Returns the connection for new calls, and connects if there is none."""
        if self._dialer.is_closed:
            raise Unavailable("the client was closed")
        self._enter_loop()
        if self._current is not None and self._current.is_open:
            return self._current
        if self._dialing is None:
            pause = self._backoff.pause
            if pause > 0:
                error = copy.copy(self._last_error)
                error.message += f" (dialed again in {pause:.1f} s)"
                raise error
            self._dialing = asyncio.ensure_future(self._dial())
        if self._waiting_for_dial >= self._settings.max_waiting:
            raise ResourceExhausted(f"{self._waiting_for_dial} calls wait already")
        dialing = self._dialing
        self._waiting_for_dial += 1
        try:
            await asyncio.wait({dialing}, timeout=deadline.left)
        finally:
            self._waiting_for_dial -= 1
        if not dialing.done():
            progress = f"connecting to {short(str(self.address))}: {self._dialer.progress}"
            raise deadline.exceeded("not_sent", progress)
        if dialing.cancelled():
            raise Unavailable("the client was closed")
        outcome = dialing.result()
        if isinstance(outcome, FarcallError):
            # A copy, because each caller adds a traceback to it.
            raise copy.copy(outcome) from outcome.__cause__
        return outcome

    def _enter_loop(self) -> None:
        """Leaves behind what belongs to an event loop that has ended."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            if self._loop.is_running():
                raise RuntimeError(
                    "this client is used in another event loop, which is running: "
                    "each loop needs a client"
                )
            self._forget()
        self._loop = loop

    def _forget(self) -> None:
        """Forgets all connections, whose event loop does not run any more."""
        for connection in self._connections:
            connection.orphan()
        self._connections.clear()
        self._current = None
        self._dialing = None
        self._waiting_for_dial = 0
        # The ends of those connections say nothing about the server.
        self._backoff = Backoff()

    async def _dial(self) -> Connection | FarcallError:
        """Connects once.  Errors are returned, because all callers may have been cancelled."""
        try:
            connection = await self._dialer.open(
                self._connections, self._connection_shut, self._connections.discard
            )
        except FarcallError as error:
            self._backoff.dial_failed()
            error.message = f"connecting to {short(str(self.address))}: {error.message}"
            self._last_error = error
            return error
        finally:
            self._dialing = None
        self._current = connection
        self._terms = connection.terms
        return connection

    def _connection_shut(self, connection: Connection) -> None:
        """Notes that a connection takes no more calls.

        A server that says goaway at once has served nobody, however long calls keep it open.
        """
        if self._current is connection:
            self._current = None
        self._last_error = Unavailable(f"{short(str(self.address))}: {connection.close_reason}")
        self._backoff.connection_ended(connection.age)
