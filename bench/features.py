"""What each feature costs a message: `pass` with it beside `pass` without it, in turn, by the CPU time of the system.

    python -m bench.features --rounds 5
    python -m bench.features --only rules-1000,tls-in --messages 4000

In each round a few features at a time run between two runs of what they are measured against (`base`); the
difference to the mean of those is what a message costs more. The first rows hold a base against itself: what they
say of features that cost nothing is how far the others can be believed.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from bench.arrivals import Arrivals
from bench.instance import Instance
from bench.load import Load, Sent
from bench.matrix import Cell
from bench.report import about_machine, markdown_table
from bench.systems.base import Place
from bench.systems.waypost import WaypostPass, program

PASSWORD = "correct horse battery staple"
BETWEEN = 3
"""Features that are measured between two runs of what they are held against."""

MANY = 200
"""Accounts of which each logs in once, so that no password is remembered."""

Config = dict[str, Any]
Change = Callable[[Config, Place], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run Waypost, and to send to it."""

    name: str
    title: str
    changes: tuple[Change, ...] = ()
    client: tuple[str, ...] | None = None
    """Options of `bench.submit`; None is `smtp-source`, over a new connection for each message."""
    sink_tls: bool = False
    most: int | None = None
    """Messages at most, where one is dear."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A set-up, and the one that lacks nothing but the feature."""

    setup: Setup
    base: Setup


class Featured(WaypostPass):
    """Waypost with one set-up."""

    def __init__(self, setup: Setup) -> None:
        self.name = f"waypost-{setup.name}"
        self.title = setup.title
        self._setup = setup

    def configuration(self, place: Place) -> Config:
        config = super().configuration(place)
        for change in self._setup.changes:
            change(config, place)
        return config


# -- what is changed in the configuration


def _rules(count: int, extra: Config | None = None) -> Change:
    def change(config: Config, _: Place) -> None:
        rules = [{"recipient": f"*@d{number}.example", "route": "all"} | (extra or {}) for number in range(count - 1)]
        config["rules"] = [*rules, {"route": "all"}]

    return change


def _mixed_rules(count: int) -> Change:
    """Of each kind some: addresses, domains, globs that no dict answers, networks, listeners."""

    def change(config: Config, _: Place) -> None:
        conditions: list[Callable[[int], Config]] = [
            lambda n: {"recipient": f"*@d{n}.example"},
            lambda n: {"recipient": f"person{n}@example.org"},
            lambda n: {"reverse_path": f"*@s{n}.example"},
            lambda n: {"client_network": f"10.{n // 256}.{n % 256}.0/24"},
            lambda n: {"recipient": f"*@d{n}.example", "reverse_path": f"boss{n}@example.org"},
        ]
        rules = [conditions[n % len(conditions)](n) | {"route": "all"} for n in range(count - 1)]
        config["rules"] = [*rules, {"route": "all"}]

    return change


def _two(config: Config, place: Place) -> None:
    """A pool of two upstreams, which are the same sink."""
    primary = config["upstreams"]["primary"]
    config["upstreams"] = {"one": dict(primary), "two": dict(primary)}
    config["pools"] = {"pair": {"upstreams": ["one", "two"]}}
    config["routes"]["all"]["primary"] = "pair"


def _strategy(name: str) -> Change:
    def change(config: Config, _: Place) -> None:
        config["pools"]["pair"]["strategy"] = name

    return change


def _plugin(kind: str, text: str) -> Change:
    def change(config: Config, place: Place) -> None:
        place.directory.mkdir(parents=True, exist_ok=True)
        file = place.directory / ("plugin.py" if kind == "python" else "plugin")
        file.write_text(text)
        file.chmod(0o755)
        config["plugins"] = {"mine": {kind: str(file), "timeout": "5s"}}
        config["pools"]["pair"]["plugin"] = "mine"

    return change


_FUNCTION = "def choose(question):\n    return [upstream.name for upstream in question.upstreams]\n"
_PROGRAM = f"""#!{sys.executable} -IS
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    order = [upstream["name"] for upstream in asked["question"]["upstreams"]]
    print(json.dumps({{"id": asked["id"], "order": order}}), flush=True)
"""


def _spool(config: Config, place: Place) -> None:
    config["spool"] = {"path": str(place.directory / "spool")}


def _quota(config: Config, _: Place) -> None:
    config["upstreams"]["primary"]["quota"] = ["1000000/day", "100000000/month recipients"]


def _second_listener(config: Config, place: Place, **settings: Any) -> None:
    """What the client talks to; the first one stays as it was, for the harness to see that the system greets."""
    config["listeners"].append(config["listeners"][0] | {"address": f"127.0.0.1:{place.admin}"} | settings)


def _plain_listener(config: Config, place: Place) -> None:
    _second_listener(config, place)


def _tls_listener(config: Config, place: Place) -> None:
    _second_listener(config, place, tls="implicit")
    pem = str(certificate(place.directory))
    config["tls"] = {"certificate": pem, "key": pem}


def _proxy_listener(config: Config, place: Place) -> None:
    _second_listener(config, place, proxy_protocol=True)
    config["listeners"][-1]["trusted_networks"] = ["127.0.0.0/8", "192.0.2.0/24"]


def _accounts(count: int) -> Change:
    def change(config: Config, place: Place) -> None:
        _second_listener(config, place, mode="submission", allow_plaintext_auth=True, trusted_networks=[])
        password = hashed()
        config["accounts"] = {f"user{number}": {"password": password} for number in range(count)}

    return change


def _renewed(config: Config, _: Place) -> None:
    """Each message to the upstream over a connection of its own."""
    config["upstreams"]["primary"]["max_messages"] = 1


def _tls_upstream(config: Config, _: Place) -> None:
    config["upstreams"]["primary"]["tls"] = {"mode": "implicit", "verify": False}


def _submission(config: Config, _: Place) -> None:
    config["listeners"][0]["mode"] = "submission"


def _rewritten(config: Config, _: Place) -> None:
    for route in config["routes"].values():
        route["rewrite"] = "me@example.com"


def _rewritten_there(config: Config, _: Place) -> None:
    config["upstreams"]["primary"]["rewrite"] = "me@example.com"


def _signed(algorithm: str) -> Change:
    def change(config: Config, place: Place) -> None:
        path = place.directory / f"{algorithm}.pem"
        key = ed25519.Ed25519PrivateKey.generate() if algorithm == "ed25519" else rsa.generate_private_key(65537, 2048)
        clear = serialization.NoEncryption()
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear))
        config["dkim"] = [{"domain": "example.com", "selector": "s1", "key_file": str(path)}]

    return change


_hashes: list[str] = []


def hashed() -> str:
    """The password as argon2id, with the costs of `waypost hash-password`."""
    if not _hashes:
        from waypost.net.password_hash import SCHEMES

        _hashes.append(SCHEMES["argon2id"](PASSWORD))
    return _hashes[0]


def certificate(directory: Path) -> Path:
    """A PEM file with a key and a certificate for 127.0.0.1 (ECDSA P-256), made anew where there is none."""
    path = directory / "bench.pem"
    if not path.exists():
        trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return path


# -- what is measured

_PASS = Setup("pass", "pass, 1 KB, new connection")
_STORED = Setup("pass-spool", "pass, with a spool and so a journal", (_spool,))
_PAIR = Setup("ordered", "strategy `ordered`, two upstreams", (_two,))
_NEW = ("--sessions=20",)
_KEPT = ("--sessions=20", "--reuse")
_CLIENT = Setup("client", "pass, own client, new connection", (_plain_listener,), _NEW)


def _rules_of_all_kinds(count: int) -> Change:
    """Conditions that nest or that need more than a look into a dict; none of them waits for the content."""

    def change(config: Config, _: Place) -> None:
        conditions: list[Callable[[int], Config]] = [
            lambda n: {"helo": f"host{n}.example"},
            lambda n: {"recipient": f"*@d{n}.example", "time": "mon-fri 08:00-18:00 Europe/Berlin"},
            lambda n: {"recipient": f"*@d{n}.example", "percent": 10},
            lambda n: {"any": [{"recipient": f"*@d{n}.example"}, {"reverse_path": f"*@s{n}.example"}]},
            lambda n: {"recipient": f"*.d{n}.example", "not": {"reverse_path": f"*@s{n}.example"}},
        ]
        rules = [conditions[n % len(conditions)](n) | {"route": "all"} for n in range(count - 1)]
        config["rules"] = [*rules, {"route": "all"}]

    return change


def _rules_on_header(count: int) -> Change:
    """Every recipient waits for the content, and its upstream is asked for it only then."""

    def change(config: Config, _: Place) -> None:
        config["routes"]["other"] = dict(config["routes"]["all"])
        rules = [{"header": {"X-Stream": f"stream{number}"}, "route": "other"} for number in range(count - 1)]
        config["rules"] = [*rules, {"route": "all"}]

    return change


_CLIENT_KEPT = Setup("client-kept", "pass, own client, connection reused", (_plain_listener,), _KEPT)
_SUBMITTED = Setup("submission", "pass, a submission listener", (_submission,))
_REWRITTEN = Setup("rewrite", "`rewrite` on the route", (_submission, _rewritten))
_RENEWED = Setup("upstream-new", "pass, a new connection to the upstream for each message", (_renewed,))


def _login(count: int) -> tuple[str, ...]:
    return (*_NEW, f"--accounts={count}", f"--password={PASSWORD}")


FEATURES: dict[str, Feature] = {
    feature.setup.name: feature
    for feature in (
        Feature(Setup("nothing", "nothing (how far the rest can be believed)"), _PASS),
        Feature(Setup("rules-10", "10 rules by recipient domain", (_rules(10),)), _PASS),
        Feature(Setup("rules-1000", "1,000 rules by recipient domain", (_rules(1000),)), _PASS),
        Feature(Setup("rules-mixed", "1,000 rules of five kinds", (_mixed_rules(1000),)), _PASS),
        Feature(Setup("rules-kinds", "1,000 rules of five other kinds", (_rules_of_all_kinds(1000),)), _PASS),
        Feature(Setup("rules-header", "1,000 rules on a header field", (_rules_on_header(1000),)), _PASS),
        Feature(_STORED, _PASS),
        Feature(Setup("quota", "two quotas", (_spool, _quota)), _STORED),
        Feature(_PAIR, _PASS),
        *(
            Feature(Setup(name.replace("_", "-"), f"strategy `{name}`", (_two, _strategy(name))), _PAIR)
            for name in (
                "round_robin",
                "weighted",
                "random",
                "least_used",
                "least_loaded",
                "fastest",
                "cheapest",
                "sticky",
            )
        ),
        *(
            Feature(Setup(f"plugin-{name}", f"plugin, {title}", (_two, _plugin(kind, text))), _PAIR)
            for name, title, kind, text in (
                ("python", "Python function", "python", _FUNCTION),
                ("async", "Python coroutine", "python", f"async {_FUNCTION}"),
                ("exec", "program in lines of JSON", "exec", _PROGRAM),
            )
        ),
        Feature(Setup("client-nothing", "nothing, with our own client", (_plain_listener,), _NEW), _CLIENT),
        Feature(Setup("auth-cached", "AUTH PLAIN, argon2id, password remembered", (_accounts(1),), _login(1)), _CLIENT),
        Feature(
            Setup(
                "auth-new", "AUTH PLAIN, argon2id, password not remembered", (_accounts(MANY),), _login(MANY), most=MANY
            ),
            _CLIENT,
        ),
        Feature(Setup("tls-in", "TLS from the client, new connection", (_tls_listener,), (*_NEW, "--tls")), _CLIENT),
        Feature(
            Setup("tls-in-kept", "TLS from the client, connection reused", (_tls_listener,), (*_KEPT, "--tls")),
            _CLIENT_KEPT,
        ),
        Feature(Setup("proxy", "PROXY header from the client", (_proxy_listener,), (*_NEW, "--proxy")), _CLIENT),
        Feature(_REWRITTEN, _SUBMITTED),
        Feature(Setup("rewrite-there", "`rewrite` on the upstream", (_submission, _rewritten_there)), _SUBMITTED),
        *(
            Feature(Setup(f"dkim-{name}", f"DKIM, {name}", (_submission, _rewritten, _signed(name))), _REWRITTEN)
            for name in ("rsa", "ed25519")
        ),
        Feature(
            Setup("tls-out", "TLS to the upstream, new connection", (_renewed, _tls_upstream), sink_tls=True), _RENEWED
        ),
        Feature(Setup("tls-out-kept", "TLS to the upstream, connection kept", (_tls_upstream,), sink_tls=True), _PASS),
    )
}


# -- measuring


class Costs:
    """Runs set-ups; microseconds of CPU time for a message."""

    def __init__(self, work: Path, messages: int) -> None:
        self._work = work
        self._messages = messages

    def measure(self, setup: Setup, most: int | None = None) -> float:
        """One run, from the first message until the system is idle again."""
        system = Featured(setup)
        directory = Path(tempfile.mkdtemp(prefix=f"{setup.name}-", dir=self._work))
        pem = certificate(directory) if setup.sink_tls else None
        messages = min(self._messages, most or self._messages)
        try:
            with (
                Arrivals(directory, system.sinks, certificate=pem) as arrivals,
                Instance(system, directory, arrivals.ports) as instance,
            ):
                load = Load(system, Cell("1k", "new", 20), arrivals, instance)
                if setup.most is None:  # else warming would be what is to be measured
                    self._send(load, setup, 200)
                before = instance.group.cpu()
                self._send(load, setup, messages)
                return (instance.group.cpu() - before).total / messages * 1e6
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _send(self, load: Load, setup: Setup, messages: int) -> Sent:
        if setup.client is None:
            return load.send(messages)
        command = [sys.executable, "-m", "bench.submit", f"--port={load.instance.admin}", f"--messages={messages}"]
        return load.send_by([*command, *setup.client], messages)

    def compare(self, features: Sequence[Feature]) -> Iterator[tuple[Feature, float, float]]:
        """Each feature with its base and what it costs on top of it, in microseconds. All have the same base."""
        base, most = features[0].base, features[0].setup.most
        before = self.measure(base, most)
        for few in batched(features, BETWEEN):
            found = [self.measure(feature.setup, most) for feature in few]
            after = self.measure(base, most)
            middle = (before + after) / 2
            yield from ((feature, middle, cost - middle) for feature, cost in zip(few, found, strict=True))
            before = after


def batched(features: Sequence[Feature], size: int) -> Iterator[Sequence[Feature]]:
    """A few at a time, in their order."""
    return (features[at : at + size] for at in range(0, len(features), size))


def by_base(names: Iterable[str]) -> list[list[Feature]]:
    """The features of these names, those together that are held against the same."""
    groups: dict[tuple[str, int | None], list[Feature]] = {}
    for name in names:
        feature = FEATURES[name]
        groups.setdefault((feature.base.name, feature.setup.most), []).append(feature)
    return list(groups.values())


def render(results: dict[str, list[tuple[float, float]]], about: Iterable[str]) -> str:
    """The report, as Markdown."""
    rows = []
    for name, pairs in results.items():
        feature = FEATURES[name]
        base = statistics.median(base for base, _ in pairs)
        costs = [cost for _, cost in pairs]
        middle = statistics.median(costs)
        spread = f"{middle:+.0f} ({min(costs):+.0f} to {max(costs):+.0f})"
        rows.append((feature.setup.title, feature.base.title, f"{base:.0f}", spread, f"{middle / base:+.1%}"))
    heads = ("Feature", "Beside", "µs", "On top, µs", "Share")
    return "\n".join([*about, "", *markdown_table(heads, rows), ""])


def main() -> int:
    """The program; 0 when everything ran."""
    parser = argparse.ArgumentParser(prog="python -m bench.features", description="What each feature costs a message.")
    parser.add_argument("--only", default=",".join(FEATURES), metavar="NAME,NAME", help=", ".join(FEATURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".work", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there too")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in FEATURES]:
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(FEATURES)}")
    if program() is None or not shutil.which("smtp-source"):
        sys.exit("this needs waypost in the Python that runs it, and smtp-source, which comes with Postfix")
    options.work.mkdir(parents=True, exist_ok=True)
    costs, begun = Costs(options.work.resolve(), options.messages), datetime.now(UTC)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(1, options.rounds + 1):
        for group in by_base(names):
            for feature, base, cost in costs.compare(group):
                name = feature.setup.name
                results[name].append((base, cost))
                print(f"[{number}/{options.rounds}] {name}: {base:.0f} {cost:+.0f} µs", file=sys.stderr, flush=True)
    command = f"python -m bench.features --rounds {options.rounds} --messages {options.messages}"
    about = [
        f"Begun {begun:%Y-%m-%d %H:%M} UTC, ended {datetime.now(UTC):%H:%M} UTC: `{command}`",
        "",
        *about_machine(),
    ]
    if options.json:
        options.json.write_text(json.dumps(results))
    print(render(results, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
