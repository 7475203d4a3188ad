"""The TLS settings of a client: trusted authorities and the client's certificate."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Union

FilePath = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Tls:
    """Settings for ``tls@`` and ``https@``.  All files are in PEM.

    The name in the server's certificate is always checked; nothing turns that off.
    """

    #: The only trusted authorities.  Default: those of the system.
    ca_file: FilePath | None = None
    #: The client's certificate, with its intermediate certificates.
    cert_file: FilePath | None = None
    #: The key of that certificate, without a passphrase.  Default: in ``cert_file``, too.
    key_file: FilePath | None = None
    #: The name in the server's certificate.  Default: the host of the address.
    server_name: str | None = None

    def context(self, alpn: str) -> ssl.SSLContext:
        """Returns a context for Python's ``ssl``.

        The files are read each time, so that a new connection has renewed certificates.
        Raises ValueError, which names the invalid file.
        """
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file is given without cert_file")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ValueError(f"ca_file {os.fspath(self.ca_file or '')!r}: {error}") from error
        if self.cert_file is not None:
            key_file = self.key_file or self.cert_file
            try:
                context.load_cert_chain(self.cert_file, self.key_file, _no_passphrase)
            except (OSError, ValueError) as error:
                files = " with ".join(sorted({os.fspath(self.cert_file), os.fspath(key_file)}))
                raise ValueError(f"cert_file and key_file, {files}: {error}") from error
        context.set_alpn_protocols([alpn])
        return context


def _no_passphrase() -> str:
    # Without this, the user would be asked for it on the terminal.
    raise ValueError("the key has a passphrase, which is not supported")
