"""What users hold: a client that connects, calls, and connects again."""

from __future__ import annotations

import asyncio
import copy
import inspect
import ssl
from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import (
    Any,
    Callable,
    TypeVar,
    Union,
    cast,
)

from .address import Address
from .backoff import Backoff
from .codec import Codec, codec_named
from .connection import Connection, Request
from .deadline import Deadline, within
from .errors import FarcallError, InvalidArgument, ResourceExhausted, Unauthenticated, Unavailable
from .handshake import Terms, option_of, shake_hands
from .opening import open_stream
from .reserved import Health, MethodStats, ServiceDescription
from .settings import Settings, Token, checked_metadata, checked_timeout
from .tls import Tls
from .wire import (
    DEFAULT_MAX_FRAME_BYTES,
    FLAG_IDEMPOTENT,
    EndOfStream,
    ProtocolError,
)

T = TypeVar("T")

#: The arguments of a method: by name, or in their order.
Args = Union[Mapping[str, Any], Sequence[Any]]

#: How often a call is taken to another connection because nothing was begun on the last.
MAX_TRIES = 3


class _ClientDefault:
    def __repr__(self) -> str:
        return "CLIENT_DEFAULT"


#: The timeout of a call that says nothing else: that of its client.
CLIENT_DEFAULT = _ClientDefault()
Timeout = Union[float, None, _ClientDefault]


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
) -> Client:
    """A client of the server at an address: ``async with farcall.connect(...) as client``.

    All times are in seconds.

    address: ``tcp@host:port`` or ``host:port``, ``unix@/path``, ``tls@host:port``,
        ``http@host:port`` or ``https@host:port``.
    codec: ``"json"``, or ``"msgpack"``, which needs the package of that name.  With JSON,
        bytes among the arguments are sent as base64, and come as such.
    token: a bearer credential, or a function that gives one for each connection; it may
        be a coroutine function.
    tls: whom to trust, and an own certificate.  Default: whom the system trusts.
    timeout: what a call may take that says nothing else.  Default: no limit.
    connect_timeout: for all from the first packet to the end of the handshake.
    handle_timeout: asks the server to let no method run for longer.  Default: its own.
    max_frame_bytes: the largest answer.  The server fails a call that has a larger one.
    max_waiting: how many calls may wait for a connection, or for a place on it; one more
        fails at once with `ResourceExhausted`.
    ping_after: the silence after which the server is pinged.
    ping_timeout: the further silence by which the connection is dead.

    Raises ValueError or TypeError for what cannot be right, and ImportError for a codec
    whose package is missing.
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
    )
    return Client(Address.parse(address), codec_named(codec), settings)


class Client:
    """Calls methods of one server.  `connect` makes one.

    It has one connection at a time, which all calls share.  When a call finds it gone,
    it connects anew; while the server cannot be connected, calls fail at once, and it is
    dialed again after a rest of a second, which grows up to two minutes.

    Any number of tasks of one event loop may use it at the same time.
    """

    def __init__(self, address: Address, codec: Codec, settings: Settings) -> None:
        self.address = address
        self._codec = codec
        self._settings = settings
        self._backoff = Backoff()
        self._last_error: FarcallError = Unavailable("")
        self._terms: Terms | None = None
        # The one for new calls, and those that only finish what they have begun.
        self._current: Connection | None = None
        self._connections: set[Connection] = set()
        self._dialing: asyncio.Task[Connection | FarcallError] | None = None
        self._waiting_for_dial = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<farcall.Client of {self.address}>"

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
        **named: Any,
    ) -> Any:
        """Calls a method such as ``"Arith.multiply"``, and returns its result.

        The arguments are given by name: ``call("Arith.multiply", a=6, b=7)``.  Those
        that are called as one of the options below go in a dict, as ``args``; a list in
        its place has them in their order.

        timeout: what it may take, in seconds, waiting and connecting included; the
            server stops the method by then.  None is no limit.
        metadata: strings for the server, by keys in lower case.
        idempotent: tells the server that doing it twice is as good as once.

        If the task that awaits it is cancelled, the method is stopped on the server.
        Raises a `FarcallError`; see its ``code`` and ``execution``.
        """
        request = self._request(method, args, named, timeout, metadata, idempotent)
        return await self._run(request, lambda connection: connection.call(request))

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
        """Calls a method one-way: nobody will know what became of it.

        It returns when the call is on its way, and takes what `call` takes.
        """
        request = self._request(method, args, named, timeout, metadata, idempotent)
        await self._run(request, lambda connection: connection.notify(request))

    def service(self, name: str) -> Service:
        """The methods of a service: ``client.service("Arith").multiply(a=6, b=7)``."""
        return Service(self, name)

    async def services(self, *, timeout: Timeout = CLIENT_DEFAULT) -> list[ServiceDescription]:
        """What can be called there."""
        answer = await self.call("farcall.services", timeout=timeout)
        return cast(list[ServiceDescription], answer)

    async def health(
        self, service: str | None = None, *, timeout: Timeout = CLIENT_DEFAULT
    ) -> Health:
        """How the server is, or that service of it."""
        args = None if service is None else {"service": service}
        return cast(Health, await self.call("farcall.health", args, timeout=timeout))

    async def stats(self, *, timeout: Timeout = CLIENT_DEFAULT) -> list[MethodStats]:
        """Counts and times of each method, for the whole server."""
        return cast(list[MethodStats], await self.call("farcall.stats", timeout=timeout))

    async def ping(self, timeout: float = 5.0) -> float:
        """Pings the server, and returns the seconds until its answer.

        It waits first if many pings went out lately, since a server bears only so many.
        """
        connection = await self._connected(Deadline(timeout))
        return await connection.ping(timeout)

    # Connecting

    async def connect(self) -> None:
        """Connects now rather than at the first call."""
        await self._connected(Deadline(None))

    @property
    def in_flight(self) -> int:
        """How many calls are under way.  A cancelled one is so until it has ended there."""
        return sum(connection.in_flight for connection in self._connections)

    @property
    def terms(self) -> Terms | None:
        """What the server stated when it was connected last; None before that."""
        return self._terms

    async def close(self, timeout: float = 5.0) -> None:
        """Takes no more calls, lets those under way be answered, and closes.

        What is not answered in so many seconds ends as `Unavailable`, ``maybe``.
        """
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait({self._dialing})
        connections = list(self._connections)
        await asyncio.gather(*(connection.close(timeout) for connection in connections))

    def abort(self) -> None:
        """Closes at once.  Calls under way end as `Unavailable`, ``maybe``."""
        self._closed = True
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
        """``client = await farcall.connect(...)``, for whoever closes it themselves."""
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
        if isinstance(timeout, _ClientDefault):
            timeout = self._settings.timeout
        deadline = Deadline(checked_timeout("timeout", timeout))
        flags = FLAG_IDEMPOTENT if idempotent else 0
        request = Request(method, b"", deadline, checked_metadata(metadata), flags)
        if value is not None:
            # Now, so that what the caller does with it from here on changes nothing.
            try:
                request.body = self._codec.encode(value)
            except (ValueError, TypeError, OverflowError, RecursionError) as cause:
                error = InvalidArgument(f"the arguments cannot be encoded: {cause}")
                error.method = method
                raise error from cause
        return request

    async def _run(self, request: Request, send: Callable[[Connection], Awaitable[T]]) -> T:
        """Sends it over a connection, or over another if nothing was begun on that one."""
        sent = 0
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                connection = await self._connected(request.deadline)
                try:
                    return await send(connection)
                except Unavailable as error:
                    untouched = error.execution in ("refused", "not_sent")
                    if connection.is_open or not untouched or not tries_left:
                        raise
                    sent += error.execution == "refused"
            except FarcallError as error:
                error.method = request.method
                raise
            if sent:
                attempt = {"farcall-attempt": str(sent + 1)}
                request.metadata = {**(request.metadata or {}), **attempt}
        raise AssertionError("the last try returns or raises")

    async def _connected(self, deadline: Deadline) -> Connection:
        """The connection for new calls, which is made if there is none."""
        if self._closed:
            raise Unavailable("the client was closed")
        if self._current is not None and self._current.is_open:
            return self._current
        if self._dialing is None:
            rest = self._backoff.rest
            if rest > 0:
                error = copy.copy(self._last_error)
                error.message += f" (dialed again in {rest:.1f} s)"
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
            raise deadline.exceeded("not_sent")
        if dialing.cancelled():
            raise Unavailable("the client was closed")
        outcome = dialing.result()
        if isinstance(outcome, FarcallError):
            # A copy, because each who waits adds a traceback to it.
            raise copy.copy(outcome) from outcome.__cause__
        return outcome

    async def _dial(self) -> Connection | FarcallError:
        """Connects once.  It returns an error, since there may be nobody to raise it to."""
        try:
            connection = await self._open()
        except FarcallError as error:
            self._backoff.dial_failed()
            error.message = f"connecting to {self.address}: {error.message}"
            self._last_error = error
            return error
        finally:
            self._dialing = None
        self._current = connection
        self._terms = connection.terms
        return connection

    async def _open(self) -> Connection:
        limit = self._settings.connect_timeout
        try:
            return await within(limit, self._open_and_shake_hands())
        except asyncio.TimeoutError:
            raise Unavailable(f"no answer within {limit:g} s") from None
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not accepted: {error.verify_message}"
            raise Unavailable(why) from error
        except ssl.SSLError as error:
            plain = error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
            why = "it does not speak TLS" if plain else f"TLS: {error}"
            raise Unavailable(why) from error
        except EndOfStream as error:
            raise Unavailable("it closed the connection in the handshake") from error
        except (OSError, ValueError, ProtocolError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _open_and_shake_hands(self) -> Connection:
        settings = self._settings
        option = option_of(
            self._codec,
            connect_timeout=settings.connect_timeout,
            handle_timeout=settings.handle_timeout,
            max_frame_bytes=settings.max_frame_bytes,
            token=await self._token(),
        )
        stream = await open_stream(self.address, settings.tls)
        try:
            terms = await shake_hands(stream, option)
            if self._closed:  # since the server's answer woke this
                raise Unavailable("the client was closed")
        except BaseException:
            stream.abort()
            raise
        connection = Connection(
            stream,
            self._codec,
            terms,
            max_frame_bytes=settings.max_frame_bytes,
            max_waiting=settings.max_waiting,
            ping_after=settings.ping_after,
            ping_timeout=settings.ping_timeout,
            on_end=self._connection_ended,
        )
        # Here already: whoever waits for this may be cancelled in this very moment.
        self._connections.add(connection)
        return connection

    async def _token(self) -> str | None:
        token = self._settings.token
        if token is None or isinstance(token, str):
            return token
        try:
            given = token()
            given = await given if inspect.isawaitable(given) else given
        except Exception as error:
            raise Unauthenticated(f"there is no token: {error}") from error
        if not isinstance(given, str):
            raise Unauthenticated(f"there is no token, but a {type(given).__name__}")
        return given

    def _connection_ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._current is connection:
            self._current = None
        self._last_error = Unavailable(f"{self.address}: {connection.why_shut}")
        self._backoff.connection_ended(connection.age)


class Service:
    """The methods of a service as functions, which take what `Client.call` takes.

    A method whose name begins with an underscore is called by `Client.call` only.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **options: Any) -> Awaitable[Any]:
            return self._client.call(f"{self._name}.{method}", *args, **options)

        return call

    def __repr__(self) -> str:
        return f"<farcall service {self._name} at {self._client.address}>"
