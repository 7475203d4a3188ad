"""Opens connections to one server, with the handshake."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from typing import Callable

from .address import Address
from .codec import Codec
from .connection import Connection
from .deadline import within
from .errors import Unauthenticated, Unavailable
from .handshake import option_of, shake_hands
from .opening import open_stream
from .settings import Settings
from .wire import EndOfStream, ProtocolError


class Dialer:
    """Opens connections to one server."""

    def __init__(self, address: Address, codec: Codec, settings: Settings) -> None:
        self._address = address
        self._codec = codec
        self._settings = settings
        #: How far the dial has come, as the beginning of "... within 10 s".
        self.progress = "no answer"
        #: True once the client is closed, so that no connection begins any more.
        self.is_closed = False

    async def open(
        self,
        connections: set[Connection],
        on_shut: Callable[[Connection], None],
        on_end: Callable[[Connection], None],
    ) -> Connection:
        """Opens a connection, and adds it to the others.  Raises `FarcallError`."""
        limit = self._settings.connect_timeout
        try:
            return await within(limit, self._open_and_shake_hands(connections, on_shut, on_end))
        except asyncio.TimeoutError:
            raise Unavailable(f"{self.progress} within {limit:g} s") from None
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not accepted: {error.verify_message}"
            raise Unavailable(reason) from error
        except ssl.SSLError as error:
            plain = error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
            instead = "http@" if self._address.scheme == "https" else "tcp@"
            reason = f"it does not speak TLS: try {instead}" if plain else f"TLS: {error}"
            raise Unavailable(reason) from error
        except EndOfStream as error:
            raise Unavailable("it closed the connection in the handshake") from error
        except (OSError, ValueError, ProtocolError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _open_and_shake_hands(
        self,
        connections: set[Connection],
        on_shut: Callable[[Connection], None],
        on_end: Callable[[Connection], None],
    ) -> Connection:
        settings = self._settings
        option = option_of(
            self._codec,
            connect_timeout=settings.connect_timeout,
            handle_timeout=settings.handle_timeout,
            max_frame_bytes=settings.max_frame_bytes,
            token=await self._token(),
            stream_window=settings.stream_window,
        )
        self.progress = "no answer"
        stream = await open_stream(self._address, settings.tls)
        self.progress = "it accepted the connection; to the handshake there was no answer"
        try:
            terms = await shake_hands(stream, option)
            if self.is_closed:  # closed while waiting for the answer
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
            stream_window=settings.stream_window,
            max_stream_window=settings.max_stream_window,
            max_stream_growth=settings.max_stream_growth,
            on_shut=on_shut,
            on_end=on_end,
        )
        # Recorded here already, because the caller may be cancelled at this moment.
        connections.add(connection)
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
