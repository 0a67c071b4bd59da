"""The first line that a program made with hashicorp/go-plugin writes: how and where it wants to be spoken to.

`1|1|unix|/tmp/plugin123|netrpc|`: version of go-plugin's own protocol, version of the application's, network, address,
kind of calls, certificate. Later releases append fields, which say nothing about net/rpc; the oldest end after four.
"""

import re
from dataclasses import dataclass

MAX_LINE = 4096
"""Octets of the line; paths of sockets have about a hundred."""

COOKIE = ("SMTP_ROUTER_PLUGIN", "hello")
"""The variable by which a plugin of smtpmux knows that it is started as one."""

CORE_VERSION = 1
APPLICATION_VERSION = 1

_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
_LOOPBACK = re.compile(r"(127\.[0-9.]{5,11}|\[::1\]):([0-9]{1,5})", re.ASCII)


class HandshakeError(Exception):
    """This program cannot be spoken with. The text says why, and what would help."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of this machine, where there are no unix sockets."""

    host: str
    port: int


def read_handshake(line: bytes) -> UnixAddress | TcpAddress:
    """Where the plugin listens. Raises `HandshakeError`."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    core, *rest = text.split("|")
    if not _NUMBER.fullmatch(core) or len(rest) < 3:
        raise HandshakeError(
            f"its first line is {line[:60]!r}, not a handshake of go-plugin; "
            "is it a program made with hashicorp/go-plugin for smtpmux?"
        )
    if int(core) != CORE_VERSION:
        raise HandshakeError(f"it speaks version {int(core)} of go-plugin's protocol; only {CORE_VERSION} is known")
    application, network, address, *more = rest
    if application != str(APPLICATION_VERSION):
        raise HandshakeError(f"it wants version {application[:10]!r} of smtpmux's protocol; there is only version 1")
    if more and more[0] not in ("", "netrpc"):
        raise HandshakeError(
            f"it wants to be called by {more[0][:20]!r}; build it without GRPCServer in its ServeConfig, for net/rpc"
        )
    if len(more) > 1 and more[1]:
        raise HandshakeError("it wants TLS on its socket; build it without TLSProvider in its ServeConfig")
    return _address(network, address)


def _address(network: str, address: str) -> UnixAddress | TcpAddress:
    if network == "unix" and address.startswith("/") and "\0" not in address:
        return UnixAddress(address)
    if network == "tcp" and (found := _LOOPBACK.fullmatch(address)) and 0 < int(found[2]) < 65536:
        return TcpAddress(found[1].strip("[]"), int(found[2]))
    raise HandshakeError(f"it listens at {network[:10]!r} {address[:60]!r}, which is no socket of this machine")
