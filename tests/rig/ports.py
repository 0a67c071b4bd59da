"""Free ports on loopback."""

import os
import socket
from itertools import count

_FIRST, _LAST = 20000, 32000
# Below the range from which the kernel takes the ports of outgoing connections (from 32768 on), so that a
# port found free here is not taken by somebody's connection before its server binds it.

_candidates = count(os.getpid() * 37)


def free_port() -> int:
    """A port on which nobody listens, on 127.0.0.1 and ::1 alike; no two calls give the same one soon."""
    for candidate in _candidates:
        port = _FIRST + candidate % (_LAST - _FIRST)
        if _is_free(socket.AF_INET, "127.0.0.1", port) and _is_free(socket.AF_INET6, "::1", port):
            return port
    raise AssertionError("unreachable: the count never ends")


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return family == socket.AF_INET6 and not has_ipv6()  # then the address is refused, not the port
    return True
