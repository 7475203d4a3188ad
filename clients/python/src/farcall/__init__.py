"""A client of farcall servers, for asyncio.

    import asyncio
    import farcall

    async def main():
        async with farcall.connect("tcp@127.0.0.1:7001") as client:
            print(await client.call("Arith.multiply", a=6, b=7))

    asyncio.run(main())

`connect` creates a `Client`, whose failed calls raise a `FarcallError`.
"""

from .client import Client, connect
from .directions import Exchange, ItemStream, Upload
from .errors import (
    ApplicationError,
    Cancelled,
    DeadlineExceeded,
    Execution,
    FarcallError,
    InternalError,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .handshake import Terms
from .reserved import Health, Method, MethodStats, Parameter, ServiceDescription
from .service import Service
from .settings import CLIENT_DEFAULT, Timeout
from .tls import Tls

__all__ = [
    "CLIENT_DEFAULT",
    "ApplicationError",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Exchange",
    "Execution",
    "FarcallError",
    "Health",
    "InternalError",
    "InvalidArgument",
    "ItemStream",
    "Method",
    "MethodStats",
    "Parameter",
    "PermissionDenied",
    "ResourceExhausted",
    "Service",
    "ServiceDescription",
    "Terms",
    "Timeout",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Upload",
    "connect",
]
