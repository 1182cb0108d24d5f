"""Binds the server's address before anything slow happens, so that a taken port is told at once."""

import errno
import socket


class CannotListen(Exception):
    """The address cannot be bound; the message says which option to change."""


def open_socket(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: nobody can connect before the server runs.

    Raises:
        CannotListen: the port is in use, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(_explain(host, port, error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CannotListen(_explain(host, port, error)) from error
    return listener


def url_of(listener: socket.socket, *, is_tls: bool = False) -> str:
    """The URL that reaches a bound socket."""
    scheme = "https" if is_tls else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _explain(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot resolve the address {host!r}: choose another with --host"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another with --port, or free it"
    return f"cannot listen on {host}, port {port} ({error.strerror}): see --host and --port"
