"""The methods of a service as functions."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Callable

from .errors import short

if TYPE_CHECKING:
    from .client import Client


class Service:
    """The methods of a service as functions with the parameters of `Client.call`.

    A method whose name begins with an underscore can only be called with `Client.call`.
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
        return f"<farcall service {short(self._name)} at {short(str(self._client.address))}>"
