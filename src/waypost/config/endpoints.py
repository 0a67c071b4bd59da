"""Where something listens: a host and a port, or the path of a unix socket."""

import ipaddress
import re
from dataclasses import dataclass

from waypost.config.errors import WrongValueError
from waypost.config.values import HOST


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a port. `text` is how it was written; `host` has no brackets and is empty for every interface."""

    text: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.text

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket: `host` is its path, and `port` is 0."""
        return self.host.startswith("/")


_UNIX = "unix:"


def _unix(text: str) -> Endpoint:
    path = text.removeprefix(_UNIX)
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise WrongValueError(
            f"{path[:40]!r} is not the whole path of a socket", "write it like unix:/run/dovecot/lmtp"
        )
    return Endpoint(text, path, 0)


def upstream_address(text: str) -> Endpoint:
    """`host:port`, with IPv6 in brackets: `[2001:db8::25]:25`; or `unix:/path`."""
    if text.startswith(_UNIX):
        return _unix(text)
    endpoint = _endpoint(text, example="mail.example.com:25")
    if not endpoint.host:
        raise WrongValueError("has no host", f"write mail.example.com{text}")
    if not endpoint.port:
        raise WrongValueError("has port 0, where nobody can listen")
    return endpoint


def bound_address(text: str) -> Endpoint:
    """`host:port` to listen on. No host, or `*`, is every interface; port 0 is any that is free.

    Or `unix:/path`.
    """
    return _unix(text) if text.startswith(_UNIX) else tcp_address(text)


def tcp_address(text: str) -> Endpoint:
    """The same without `unix:`."""
    return _endpoint(text, example="127.0.0.1:2525")


def _endpoint(text: str, example: str) -> Endpoint:
    if "@" in text or "://" in text:  # not repeated in the message: there may be a password in it
        raise WrongValueError("must be just a host and a port", f"write it like {example}")
    host, colon, port = text.rpartition(":")
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise WrongValueError(f"{text!r} has no port", f"write it like [{inside}]:25")
        host, port = inside, rest[1:]
        if not _is_ip(host, version=6):
            raise WrongValueError(f"{host!r} is not an IPv6 address")
    elif ":" in host:
        advice = f"write [{text}]:25" if _is_ip(text, version=6) else f"write [{host}]:{port}"
        raise WrongValueError("is an IPv6 address without brackets", advice)
    elif not colon:
        like = f"{text}:25" if HOST.fullmatch(text) else example
        raise WrongValueError(f"{text!r} has no port", f"write it like {like}")
    elif host not in ("", "*") and not _is_ip(host, version=4):
        _check_host(host)
    if re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is None or int(port) > 65535:
        raise WrongValueError(f"{port!r} is not a port", "a port is a number up to 65535")
    return Endpoint(text, "" if host == "*" else host, int(port))


def _check_host(host: str) -> None:
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        raise WrongValueError(f"{host!r} is not an IPv4 address")
    if not host.isascii():
        try:
            ascii_form = host.encode("idna").decode("ascii")
        except UnicodeError:
            ascii_form = "xn--..."
        raise WrongValueError(f"{host!r} is not ASCII", f"write {ascii_form}")
    if HOST.fullmatch(host) is None or len(host) > 253:
        raise WrongValueError(f"{host!r} is not a host name")


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether what is bound to `host` can be reached from this machine only. A unix socket's host is its path."""
    if host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
