"""The address of a server in its text form (``docs/PROTOCOL.md``, section 15)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from .errors import short

SCHEMES = ("tcp", "unix", "tls", "http", "https")


@dataclass(frozen=True)
class Address:
    """A parsed address, with a host and a port, or, for ``unix``, a path."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses ``scheme@host:port``, ``unix@/path``, or ``host:port`` for ``tcp``.

        Raises ValueError, which names the error.
        """
        if not isinstance(text, str):
            raise TypeError(f"an address is a str, not {type(text).__name__}")
        if "://" in text and not text.startswith("unix@"):
            raise ValueError(f"{short(text)!r} is a URL; an address is written {short(_address_of_url(text))!r}")
        scheme, at, where = text.partition("@")
        if not at:
            scheme, where = "tcp", text
        if scheme not in SCHEMES:
            known = ", ".join(SCHEMES)
            raise ValueError(f"{short(text)!r}: the scheme {short(scheme)!r} is none of {known}")
        if scheme == "unix":
            if not where or "\0" in where:
                raise ValueError(f"{short(text)!r}: behind unix@ stands the path of a socket")
            return cls(scheme, path=where)
        host, port = _host_and_port(text, where)
        return cls(scheme, host, port)

    @property
    def authority(self) -> str:
        """``host:port``, as in the ``Host`` of HTTP."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}@{self.path or self.authority}"


def _address_of_url(text: str) -> str:
    """Returns the address that is meant by a URL."""
    scheme, _, rest = text.rpartition("@")[2].partition("://") if "@" in text.partition("://")[0] else text.partition("://")
    if scheme.lower() == "unix":
        return f"unix@{rest}"
    scheme = scheme.lower() if scheme.lower() in SCHEMES else "scheme"
    authority = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if not re.search(r":[0-9]+$", authority):
        authority += {"http": ":80", "https": ":443"}.get(scheme, ":port")
    return f"{scheme}@{authority}"


def _host_and_port(text: str, where: str) -> tuple[str, int]:
    host, colon, port = where.rpartition(":")
    if not colon:
        raise ValueError(f"{short(text)!r}: there is no port; an address ends in host:port")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 1 << 16:
        raise ValueError(f"{short(text)!r}: the port {short(port)!r} is no number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{short(text)!r}: [{short(host)}] is no IPv6 address") from None
    elif ":" in host:
        if host.partition(":")[0].lower() in SCHEMES:
            scheme, _, rest = host.partition(":")
            meant = f"{scheme.lower()}@{rest}:{port}"
            raise ValueError(f"{short(text)!r}: an address is written scheme@host:port, as {short(meant)!r}")
        if "::" in host or host.count(":") == 7:
            raise ValueError(f"{short(text)!r}: an IPv6 address stands in brackets, as [::1]:7001")
        raise ValueError(f"{short(text)!r}: {short(host)!r} is no name of a host")
    elif not host:
        raise ValueError(f"{short(text)!r}: there is no host")
    elif not host.isascii() or any(c <= " " or c in "/?#@\\[]\x7f" for c in host):
        raise ValueError(f"{short(text)!r}: {short(host)!r} is no name of a host")
    return host, int(port)
