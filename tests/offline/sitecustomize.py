"""Refuse the network to this process; Python runs this file at its start where its folder is on PYTHONPATH.

An audit hook sees every connection and name look-up that goes through Python's sockets, whoever asks, and cannot be
taken off. Loopback and UNIX sockets are left, which processes of one machine talk through. What is refused is noted
too, in the file that PPAR_TESTS_REFUSED names, as whoever asks may swallow the error.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path

NAMES = ("", "localhost", socket.gethostname())


def is_local(host: object) -> bool:
    """Whether a host is this machine; addresses that are no text belong to other kinds of sockets."""
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or name in NAMES:
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def refuse(event: str, arguments: tuple) -> None:
    """Raise where something would leave this machine; not an OSError, which programs take for a bad connection."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not is_local(host):
        if "PPAR_TESTS_REFUSED" in os.environ:
            with Path(os.environ["PPAR_TESTS_REFUSED"]).open("a") as file:
                file.write(f"{event} to {host!r} in {os.environ.get('PYTEST_CURRENT_TEST')}\n")
        raise RuntimeError(f"{event} to {host!r}: tests must not use the network")


sys.addaudithook(refuse)
