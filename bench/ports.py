"""Free ports on loopback, and a wait for the first octets of a greeting."""

import itertools
import os
import socket
import time

# Below the ephemeral range, so that no outgoing connection of a run takes a port between choice and use; a new port
# for every start, so that TIME_WAIT of one run is in nobody's way.
_candidates = itertools.cycle(range(12000 + os.getpid() % 8000, 30000))


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    for port in _candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("a cycle does not end")


def wait_greeting(port: int, deadline: float) -> bool:
    """Waits until a connection to `port` is greeted with 220; False when `time.monotonic()` passes `deadline`."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                if probe.recv(512).startswith(b"220"):
                    probe.sendall(b"QUIT\r\n")
                    probe.recv(512)
                    return True
        except OSError:
            pass
        time.sleep(0.002)
    return False
