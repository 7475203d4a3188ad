"""Opens the byte stream to an address: sockets, TLS, and the upgrade of HTTP.

The numbers in the comments are the sections of ``docs/PROTOCOL.md``.
"""

from __future__ import annotations

import asyncio
import ssl

from .address import Address
from .errors import safe_text
from .stream import FrameStream
from .tls import Tls
from .wire import ProtocolError

#: The ALPN protocol by scheme (15).
ALPN = {"tls": "farcall/1", "https": "http/1.1"}
#: The size limit of the head of an HTTP answer, in bytes.
MAX_HEAD_BYTES = 16 * 1024

_NOT_HTTP = "it does not speak HTTP: try tcp@, or https@ if it is encrypted"


async def open_stream(address: Address, tls: Tls) -> FrameStream:
    """Opens a stream, ready for the handshake.

    Raises OSError, `ProtocolError`, or ValueError if the TLS files are invalid.
    """
    if address.scheme == "unix":
        return FrameStream(*await asyncio.open_unix_connection(address.path))
    alpn = ALPN.get(address.scheme)
    reader, writer = await asyncio.open_connection(
        address.host,
        address.port,
        ssl=tls.context(alpn) if alpn else None,
        server_hostname=(tls.server_name or address.host) if alpn else None,
    )
    try:
        if address.scheme == "tls":
            _check_alpn(writer)
        if address.scheme in ("http", "https"):
            await _upgrade(reader, writer, address)
    except BaseException:
        writer.transport.abort()
        raise
    return FrameStream(reader, writer)


def _check_alpn(writer: asyncio.StreamWriter) -> None:
    agreed: ssl.SSLObject = writer.get_extra_info("ssl_object")
    if agreed.selected_alpn_protocol() != ALPN["tls"]:
        raise ProtocolError(f"it speaks TLS, but did not agree on {ALPN['tls']} inside")


async def _upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
) -> None:
    """Upgrades from HTTP to the protocol (15.1).  Bytes after the head are kept."""
    request = (
        "GET /_farcall_ HTTP/1.1",
        f"Host: {address.authority}",
        "Connection: Upgrade",
        "Upgrade: farcall",
        "\r\n",
    )
    writer.write("\r\n".join(request).encode("ascii"))
    status, fields = await _read_head(reader)
    parts = status.split(" ", 2)
    if not parts[0].startswith("HTTP/1.") or len(parts) < 2:
        raise ProtocolError(_NOT_HTTP)
    if parts[1] != "101":
        raise ProtocolError(f"it answered {safe_text(' '.join(parts[1:]))} to an upgrade")
    if fields.get("upgrade", "").lower() != "farcall":
        raise ProtocolError("it upgrades to something else than farcall")


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Reads the first line, and the fields by their names in lower case."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        text = "it closed the connection" if not error.partial else _NOT_HTTP
        raise ProtocolError(text) from None
    except asyncio.LimitOverrunError:
        head = b""
    if not 0 < len(head) <= MAX_HEAD_BYTES:
        raise ProtocolError(f"the head of its answer is over {MAX_HEAD_BYTES} bytes")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return status, {name.strip().lower(): value.strip() for name, _, value in fields}
