"""The validated settings of a client."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Union

from .errors import short
from .tls import Tls
from .windows import CLIENT_MAX_STREAM_GROWTH, CLIENT_MAX_STREAM_WINDOW, CLIENT_STREAM_WINDOW
from .wire import DEFAULT_MAX_FRAME_BYTES, MAX_METADATA_PAIRS

#: A bearer credential, or a function that returns one for each connection.
Token = Union[str, Callable[[], Union[str, Awaitable[str]]]]



class ClientDefault:
    """The type of `CLIENT_DEFAULT`."""

    def __repr__(self) -> str:
        return "CLIENT_DEFAULT"


#: The default timeout of a call: that of its client.
CLIENT_DEFAULT = ClientDefault()
#: A timeout in seconds, None for no limit, or `CLIENT_DEFAULT`.
Timeout = Union[float, None, ClientDefault]

#: The largest frame limit: lengths on the wire have 32 bits.
MAX_FRAME_LIMIT = 2**32 - 1
#: The largest window: credit is exact in JSON up to it.
MAX_WINDOW = 2**48


@dataclass(frozen=True)
class Settings:
    """The settings; `farcall.connect` explains each."""

    token: Token | None = None
    tls: Tls = field(default_factory=Tls)
    timeout: float | None = None
    connect_timeout: float = 10.0
    handle_timeout: float | None = None
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    max_waiting: int = 10_000
    ping_after: float = 10.0
    ping_timeout: float = 5.0
    stream_window: int = CLIENT_STREAM_WINDOW
    max_stream_window: int = CLIENT_MAX_STREAM_WINDOW
    max_stream_growth: int = CLIENT_MAX_STREAM_GROWTH
    stream_stall: float = 60.0

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError, which names the setting."""
        if self.token is not None and not isinstance(self.token, str) and not callable(self.token):
            raise TypeError("token is neither a str nor a function")
        if not isinstance(self.tls, Tls):
            raise TypeError(f"tls is a farcall.Tls, not {type(self.tls).__name__}")
        if self.tls != Tls():
            self.tls.context("farcall/1")  # checks the files
        checked_timeout("timeout", self.timeout)
        times = ("connect_timeout", "handle_timeout", "ping_after", "ping_timeout", "stream_stall")
        for name in times:
            value = checked_timeout(name, getattr(self, name))
            if name != "handle_timeout" and value is None:
                raise ValueError(f"{name} is a number of seconds, not None or infinity")
            if value is not None and value <= 0:
                raise ValueError(f"{name} is above 0, not {value:g}")
        _check_count("max_frame_bytes", self.max_frame_bytes, MAX_FRAME_LIMIT)
        _check_count("max_waiting", self.max_waiting)
        for name in ("stream_window", "max_stream_window", "max_stream_growth"):
            _check_count(name, getattr(self, name), MAX_WINDOW)

    def __repr__(self) -> str:
        shown = (f.name for f in fields(self) if f.name != "token")
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def checked_timeout(name: str, value: Any) -> float | None:
    """Returns the timeout in seconds; None and infinity are no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:  # an int beyond all floats
        seconds = math.copysign(math.inf, value > 0 or -1)
    if math.isnan(seconds):
        raise ValueError(f"{name} is not a number")
    return None if seconds == math.inf else seconds


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    """Returns a checked copy of the metadata of a call."""
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is a dict, not {type(metadata).__name__}")
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise TypeError(f"metadata maps str to str, and a key is of {type(key).__name__}")
        if not isinstance(value, str):
            raise TypeError(f"metadata maps str to str, which {short(key)!r} does not")
        if not key or key != key.lower():
            raise ValueError(f"the keys of metadata are in lower case, which {short(key)!r} is not")
    if len(metadata) > MAX_METADATA_PAIRS:
        raise ValueError(f"metadata of {len(metadata)} pairs: the limit is {MAX_METADATA_PAIRS}")
    return dict(metadata)


def _check_count(name: str, value: Any, maximum: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if value < 1 or (maximum is not None and value > maximum):
        raise ValueError(f"{name} is out of range: {value}")
