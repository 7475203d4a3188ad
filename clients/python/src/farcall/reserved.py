"""What the methods answer that every server has (``docs/PROTOCOL.md``, section 14)."""

from __future__ import annotations

from typing import TypedDict


class Parameter(TypedDict):
    """A parameter of a method, with its type as the server writes it."""

    name: str
    type: str


class Method(TypedDict):
    """A method, whose name is without that of its service."""

    name: str
    doc: str
    params: list[Parameter]
    returns: str
    idempotent: bool
    streaming: bool


class ServiceDescription(TypedDict):
    """A service, and what can be called of it."""

    name: str
    doc: str
    methods: list[Method]


class Health(TypedDict):
    """How a server is: ``"serving"`` or ``"draining"``."""

    status: str


class MethodStats(TypedDict):
    """Counts and times of one method, in microseconds."""

    name: str
    calls: int
    errors: int
    in_flight: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
