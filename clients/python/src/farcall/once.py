"""Calls that the server carries out once, however often they are made (``docs/PROTOCOL.md``, 10.1)."""

from __future__ import annotations

import secrets
import time

from .errors import Unavailable, Unimplemented

#: The time in seconds after its first try for which a call is repeated.  Servers keep answers longer.
MAX_REPEAT_AGE = 120.0
#: The longest name of a store, in bytes of UTF-8; more is cut off.
MAX_STORE_BYTES = 128


class Once:
    """Where the tries of one call have gone that may have been carried out."""

    def __init__(self) -> None:
        # The store of the server that knows of them, and when the first one was sent; None if no
        # server has begun with the call.
        self._tried: tuple[str | None, float] | None = None

    def check(self, store: str | None) -> None:
        """Checks that a try at a server with this store carries the call out once.

        Raises `Unimplemented` if it keeps no keys, and `Unavailable` if it does not know of an
        earlier try or may have forgotten it; both are ``not_sent``.
        """
        if store is None:
            raise Unimplemented("it is to be carried out once, and no method of the server is so")
        if self._tried is None:
            return
        known, since = self._tried
        if known != store:
            raise Unavailable(
                "it may have been carried out, and the server does not know: "
                "it has restarted, or is another one"
            )
        if time.monotonic() - since > MAX_REPEAT_AGE:
            raise Unavailable(
                f"it may have been carried out over {MAX_REPEAT_AGE:g} s ago, "
                "and the server may not know any more"
            )

    def may_be_done(self, store: str | None, sent_at: float) -> None:
        """Notes that a try which was sent then may have been carried out."""
        if self._tried is None:
            self._tried = (store, sent_at)


def new_key() -> str:
    """Returns a new key: 128 bits by chance, in hexadecimal digits."""
    return secrets.token_hex(16)
