"""The plain values that listeners and sessions are made from."""

from dataclasses import dataclass
from typing import Literal

from waypost.routing.route import Network, TlsVersion


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A certificate chain and its key, PEM files, reread when they change."""

    certificate: str
    key: str
    client_ca: str | None = None
    """PEM file with the authorities whose certificates clients may show; None: nobody is asked for one."""
    client_required: bool = False
    """Whether the handshake fails without one."""
    minimum: TlsVersion = "1.2"
    by_name: tuple[tuple[str, str], ...] = ()
    """Further certificates and keys, for clients that ask for one of their names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears. Sizes in octets."""

    connections: int = 1000
    connections_per_address: int = 100
    recipients: int = 1000
    message_size: int = 50 * 1024 * 1024
    line_length: int = 1024 * 1024
    errors: int = 20  # per session; then 421


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """How often passwords may be guessed, by a client address or for an account. Times in seconds."""

    failures: int = 2  # before attempts are answered later
    longest_delay: float = 16
    forget: float = 600  # after the last failure


@dataclass(frozen=True, slots=True)
class AccountsFile:
    """A file of accounts, read again when it changes."""

    path: str
    format: Literal["htpasswd", "dovecot"]


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """Seconds of silence that a client is allowed (RFC 5321 section 4.5.3.2.7)."""

    command: float = 300
    content: float = 180
    handshake: float = 30


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """A bound address with a mode.

    `submission`: AUTH is required before MAIL unless the client is in a trusted network. `relay`: only
    trusted networks may connect. `tls` is None for a listener without TLS; `implicit_tls` says that TLS
    starts with the connection.
    """

    name: str  # as written in the configuration, unique: "127.0.0.1:2525"
    host: str
    port: int
    mode: Literal["submission", "relay"]
    tls: ServerTls | None = None
    implicit_tls: bool = False
    trusted_networks: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()
    """Peers whose connections begin with a PROXY header; nobody else's may."""
    announcers: tuple[Network, ...] = ()
    """Clients that may say, by XCLIENT, who the client is."""
    lmtp: bool = False
    """LMTP is spoken here, not SMTP."""
    socket_mode: int = 0o660
    """Permissions of the socket file of a unix socket, where they decide who may send."""
    allow_plaintext_auth: bool = False
    mechanisms: tuple[str, ...] = ()
    """What AUTH offers; empty: what every account can use."""
    limits: Limits = Limits()
    timeouts: SessionTimeouts = SessionTimeouts()

    @property
    def is_unix(self) -> bool:
        """Whether `host` is the path of a socket, and there is no port."""
        return self.host.startswith("/")
