"""The answers of the methods that every server has (``docs/PROTOCOL.md``, section 14)."""

from __future__ import annotations

from typing import TypedDict


class Parameter(TypedDict):
    """A parameter of a method, with its type in the server's notation."""

    name: str
    type: str


#: The directions in which items go, seen from the server, and their types where there are any.
ItemTypes = TypedDict(
    "ItemTypes", {"in": bool, "out": bool, "in_type": str, "out_type": str}, total=False
)


class _MethodScope(TypedDict, total=False):
    #: True if two calls have the effect of one only at the same server; absent otherwise.
    idempotent_at_same_server: bool
    #: True if calls with one key are carried out once; absent otherwise.
    once: bool
    #: The items that are sent and taken; absent at servers that do not tell.
    streams: ItemTypes


class Method(_MethodScope):
    """A method; its name does not include that of its service.

    ``idempotent`` is true if two calls have the effect of one, also at two servers.
    """

    name: str
    doc: str
    params: list[Parameter]
    returns: str
    idempotent: bool
    streaming: bool


class ServiceDescription(TypedDict):
    """A service and its methods."""

    name: str
    doc: str
    methods: list[Method]


class Health(TypedDict):
    """The status of a server: ``"serving"`` or ``"draining"``."""

    status: str


class MethodStats(TypedDict):
    """Counts and times of one method, in microseconds; the items are those of open streams, too."""

    name: str
    calls: int
    errors: int
    in_flight: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
    items_sent: int
    items_received: int
