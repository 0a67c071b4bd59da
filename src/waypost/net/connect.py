"""Opening a connection over IPv4 and IPv6 (happy eyeballs, RFC 8305)."""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from waypost.net.stream import Stream
from waypost.net.unix_socket import short_name

_STAGGER = 0.25  # seconds before the next address is tried beside the last (RFC 8305 section 5)

Endpoint = tuple[str, int]

Tell = Callable[[str], None]
"""Hears what came of each address, in words."""


def _unheard(text: str) -> None:
    pass


class ResolveError(OSError):
    """A name has no address."""


async def resolve(host: str, port: int) -> Sequence[Endpoint]:
    """The addresses of a host, families in turn, the resolver's first choice first. Raises `ResolveError`."""
    try:
        ipaddress.ip_address(host)
        return ((host, port),)
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ResolveError(f"{host} has no address: {getattr(error, 'strerror', None) or error}") from error
    by_family: dict[int, list[Endpoint]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, []).append((str(address[0]), port))
    mixed = chain.from_iterable(zip_longest(*by_family.values()))
    return tuple(dict.fromkeys(endpoint for endpoint in mixed if endpoint is not None))


async def connect(endpoints: Sequence[Endpoint], tell: Tell = _unheard) -> Stream:
    """A stream to the first of the endpoints that answers. Raises the first one's `OSError` when none does."""
    if len(endpoints) == 1:
        return await _connect(endpoints[0], tell)
    attempts: list[asyncio.Task[Stream]] = []
    waiting = list(endpoints)
    try:
        while waiting or any(not a.done() for a in attempts):
            if waiting:
                attempts.append(asyncio.create_task(_connect(waiting.pop(0), tell)))
            running = [a for a in attempts if not a.done()]
            done, _ = await asyncio.wait(
                running, timeout=_STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                if attempt.exception() is None:
                    attempts.remove(attempt)
                    return attempt.result()
        error = attempts[0].exception()
        raise error if error is not None else OSError("no address answered")
    finally:
        for attempt in attempts:
            await _give_up(attempt)


async def _connect(endpoint: Endpoint, tell: Tell) -> Stream:
    try:
        _, stream = await asyncio.get_running_loop().create_connection(Stream, *endpoint)
    except OSError as error:
        tell(f"{endpoint[0]}: {reason(error)}")
        raise
    tell(f"{endpoint[0]}: connected")
    return stream


async def connect_unix(path: str) -> Stream:
    """A stream to the socket at a path. Raises `OSError`."""
    with short_name(Path(path)) as name:
        _, stream = await asyncio.get_running_loop().create_unix_connection(Stream, name)
    return stream


def reason(error: OSError) -> str:
    """Why there is no connection, in the system's words alone."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _give_up(attempt: "asyncio.Task[Stream]") -> None:
    attempt.cancel()
    try:
        (await attempt).abort()  # it had connected just behind the winner
    except (OSError, asyncio.CancelledError):
        pass
