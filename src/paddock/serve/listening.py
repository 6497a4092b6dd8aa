"""The address a server listens at, taken before anything is loaded: one that is taken by another is told at once."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import ssl
from pathlib import Path

from paddock.errors import InputError, UsageError

BACKLOG = 2048  # connections that may wait to be accepted


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises UsageError, with the fix, where that cannot be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host} is no address of this machine", fix="use 127.0.0.1, or 0.0.0.0") from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise _refused(error, host, port) from None
    return listening


def _refused(error: OSError, host: str, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return UsageError(
            f"port {port} of {host} is taken by another program", fix=f"give --port {other}, or stop that program"
        )
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is for administrators of this machine", fix="give --port 8000")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host {host} is no address of this machine", fix="use 127.0.0.1, or 0.0.0.0")
    return UsageError(f"cannot listen at {host} port {port}: {error.strerror or error}")


def address_of(listening: socket.socket, host: str, tls: bool) -> str:
    """What to type into a browser."""
    port = listening.getsockname()[1]
    with contextlib.suppress(ValueError):
        if (address := ipaddress.ip_address(host)).is_unspecified:  # all of this machine's
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Raises InputError for files that no TLS can be spoken with."""
    if certificate is None:
        return
    for path in filter(None, (certificate, key)):
        if not path.is_file():
            raise InputError(f"{path} is missing", fix="check --ssl-certfile and --ssl-keyfile")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError):  # SSLError is an OSError
        raise InputError(
            f"{certificate} and its key cannot be used for TLS",
            expected="a PEM certificate and its unencrypted key",
        ) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted")
