"""The values that routing works on. `waypost.config` makes them; everybody below reads them.

All are immutable: a reload makes new ones, and a session keeps those it began with.
"""

from dataclasses import dataclass, field
from typing import Literal

from waypost.mail.rewrite import Rewrite
from waypost.routing.address_list import AddressList
from waypost.routing.classify import BUILT_IN, ReplyRules
from waypost.routing.condition import Condition
from waypost.routing.condition import Network as Network
from waypost.routing.login import Login
from waypost.routing.probing import NO_PROBE, ProbeSettings
from waypost.routing.quota import Quota

TlsMode = Literal["off", "opportunistic", "starttls", "implicit"]
TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]
StrategyName = Literal[
    "ordered",
    "round_robin",
    "weighted",
    "random",
    "least_used",
    "least_loaded",
    "fastest",
    "cheapest",
    "sticky",
]
StickyBy = Literal["recipient", "sender", "account"]
InDoubtPolicy = Literal["retry-same", "tempfail", "failover", "assume-sent"]
ClientAddress = Literal["proxy-v1", "proxy-v2", "xclient", "xforward"]
Acceptance = Literal["pass", "hybrid", "spool"]


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How to speak TLS to one upstream.

    `opportunistic` takes STARTTLS when offered and verifies nothing (RFC 7435). The other modes verify the
    chain and the name unless `verify` is off; `fingerprints` (SHA-256 of the certificate, hexadecimal, lower
    case, no colons) replace both checks. `certificate` and `key` are PEM files with what we show.
    """

    mode: TlsMode = "opportunistic"
    verify: bool = True
    ca_file: str | None = None
    fingerprints: tuple[str, ...] = ()
    server_name: str | None = None
    minimum: TlsVersion = "1.2"
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that an upstream has for each phase (RFC 5321 section 4.5.3.2, cut down for a waiting client)."""

    connect: float = 10
    greeting: float = 15
    command: float = 30  # EHLO, AUTH, MAIL, RCPT, RSET
    data: float = 30
    block: float = 60
    dot: float = 600


BACKGROUND = Timeouts(connect=30, greeting=300, command=300, data=120, block=180, dot=600)
"""What the RFC asks for, where no client waits."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One configured SMTP server to which mail is handed."""

    name: str
    host: str
    port: int
    tls: UpstreamTls = UpstreamTls()
    credentials: Login | None = None
    allow_plaintext_auth: bool = False
    max_connections: int = 20
    idle_timeout: float = 30
    max_messages: int = 100
    max_age: float = 300
    timeouts: Timeouts = Timeouts()
    background_timeouts: Timeouts = BACKGROUND
    rewrite: Rewrite | None = None
    """What it wants to be different in mail of submission listeners, at each attempt there."""
    rate: float | None = None
    """Messages per second that it is given from the spool, at most; None is no limit."""
    client_address: ClientAddress | None = None
    """How it is told who the client is; None: not at all."""
    quotas: tuple[Quota, ...] = ()
    """How much it may be given in a span of time; all of them hold."""
    senders: tuple[str, ...] = ()  # globs over addresses; empty: it sends for everybody
    cost: float = 0.0
    """What one message costs there, in any currency."""
    replies: ReplyRules = BUILT_IN
    """What its refusals mean."""
    probe: ProbeSettings = NO_PROBE
    lmtp: bool = False
    """It speaks LMTP (RFC 2033), and so answers for each recipient."""

    @property
    def is_unix(self) -> bool:
        """Whether `host` is the path of a socket, and there is no port."""
        return self.host.startswith("/")

    @property
    def address(self) -> str:
        """Where it is, as configurations write it."""
        if self.is_unix:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Member:
    """An upstream in a pool, with its share for the `weighted` strategy."""

    upstream: Upstream
    weight: int = 1


_PLAIN: frozenset[StrategyName] = frozenset({"ordered", "round_robin", "weighted", "random"})


@dataclass(frozen=True, slots=True)
class Pool:
    """Upstreams of which one takes the message, in the order that the strategy gives."""

    name: str
    members: tuple[Member, ...]
    strategy: StrategyName = "ordered"
    sticky_by: StickyBy = "recipient"
    plugin: str | None = None
    """The name of the plugin that is asked for the order; the strategy's holds when it has no answer."""
    needs_content: bool = False
    """Whether the plugin cannot be asked before the content is there."""
    is_plain: bool = field(init=False, repr=False, compare=False)
    """Whether its order depends on nothing but turns and health."""
    answers_each: bool = field(init=False, repr=False, compare=False)
    """Whether one of them answers for each recipient though nobody asked for that (LMTP)."""

    def __post_init__(self) -> None:
        limited = any(member.upstream.quotas or member.upstream.senders for member in self.members)
        object.__setattr__(self, "is_plain", self.strategy in _PLAIN and not limited)
        object.__setattr__(self, "answers_each", any(member.upstream.lmtp for member in self.members))


@dataclass(frozen=True, slots=True)
class Copy:
    """A further delivery of every message that the primary accepted. `sample` is a share from 0 to 1."""

    to: Pool
    required: bool = True
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a delivery is tried again: seconds between attempts, the last one repeated, until `lifetime`."""

    intervals: tuple[float, ...] = (60, 120, 300, 600, 1200, 1800, 3600)
    jitter: float = 0.1
    lifetime: float = 5 * 86400


@dataclass(frozen=True, slots=True)
class Route:
    """The decision that a rule leads to."""

    name: str
    primary: Pool
    copies: tuple[Copy, ...] = ()
    acceptance: Acceptance | None = None
    """When the client is told 250; None: as the listener has it, see `acceptance_for`."""
    in_doubt: InDoubtPolicy | None = None
    """None: `tempfail` while the message is the client's, `retry-same` once it is ours."""
    in_doubt_hold: float = 3600
    """Seconds that copies wait for a primary whose outcome is unknown."""
    backoff: Backoff = Backoff()
    silence: float = 30
    """Seconds after RCPT in which a silent client keeps an upstream connection."""
    sync_budget: float = 45
    """Seconds that a client waits for upstreams in `hybrid`, over one transaction."""
    delay_warning: float | None = None
    """Seconds after which the sender is told that the message is still on its way; None: never."""
    rewrite: Rewrite | None = None
    """What is changed in mail of submission listeners, once, at acceptance."""

    def acceptance_for(self, submission: bool) -> Acceptance:
        """The mode for a client of a submission listener, or of a relay listener (semantics.md section 1)."""
        return self.acceptance or ("hybrid" if submission else "pass")


@dataclass(frozen=True, slots=True)
class Rule(Condition):
    """A condition and the route it leads to."""

    route: str
    name: str = ""
    origin: str = ""
    """Where it stands in the configuration, for people: `waypost.yaml:12:5`."""

    @property
    def label(self) -> str:
        """What it is called in the log and by `explain`; empty without a name and a place."""
        return f"{self.name} ({self.origin})" if self.name and self.origin else self.name or self.origin


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many messages or recipients an account may send in each `period`, in seconds: an hour, a day of UTC."""

    what: Literal["messages", "recipients"]
    count: int
    period: int


@dataclass(frozen=True, slots=True)
class Account:
    """Credentials and limits of an application that submits."""

    name: str
    password: str = field(default="", repr=False)  # a hash, or the password itself; empty: no password is right
    route: str | None = None
    may_send_as: tuple[str, ...] = ()  # globs; empty allows every address
    certificates: tuple[str, ...] = ()
    """TLS certificates that stand for it, as `waypost.net.client_certificates` writes them."""
    limits: tuple[Allowance, ...] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """All that is needed to route: the rules in order, and the routes by name."""

    rules: tuple[Rule, ...]
    routes: dict[str, Route]
    accounts: dict[str, Account]
    others: Account | None = None
    """What holds for accounts that are not among these: those of the accounts file. Its name is empty."""
    lists: dict[str, AddressList] = field(default_factory=dict)
    """The lists that rules name, as they were when the configuration was read."""
