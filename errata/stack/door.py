"""The listening socket of the API, and the address that clients of this machine use."""

import errno
import socket

from errata.stack.errors import PortTaken, StackError

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def open_door(host: str, port: int) -> socket.socket:
    """Bind the address. Not listening yet: until the API does, clients are refused."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        message = f"the host {host!r} is unknown; give an address of this machine with --host"
        raise StackError(message) from error
    family, kind, protocol, _, address = found[0]
    door = socket.socket(family, kind, protocol)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(address)
    except OSError as error:
        door.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is in use; give another with --port"
            raise PortTaken(message) from error
        message = f"cannot listen on port {port} of {host}: {error.strerror}"
        raise StackError(message) from error
    return door


def base_url(door: socket.socket) -> str:
    """Give the URL under which this machine reaches the API."""
    name: tuple[str, int] = door.getsockname()[:2]
    host, port = name
    host = ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
