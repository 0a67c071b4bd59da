"""GoSMTP-dup's format: its file, its `SMTP_DUP_` variables, and the native form of both.

What it leaves open is decided here. Its limits (10 MiB, 100 recipients) are raised to ours: mail that it took
must not be refused. `timeout_seconds` holds for every phase; only the wait for a copy's final reply is never
shorter than the RFC's ten minutes, because giving up there means sending the copy twice.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from waypost.config import endpoints, values
from waypost.config.document import Data, Tree
from waypost.config.environment import is_foreign
from waypost.config.errors import Origin, Path, Problem, WrongValueError, did_you_mean, key_text
from waypost.config.fields import BoundAddress, HostName, Section, Short, UpstreamAddress, Words, count_of
from waypost.config.names import Namer, host_of

PREFIX = "SMTP_DUP_"
FORMAT = "GoSMTP-dup"
VARIABLES: dict[str, Path] = {
    "SMTP_DUP_SMTP_LISTEN": ("smtp", "listen"),
    "SMTP_DUP_SMTP_DOMAIN": ("smtp", "domain"),
    "SMTP_DUP_RELAY_DESTINATION_PRIMARY": ("relay", "destination_primary"),
    "SMTP_DUP_RELAY_DESTINATION_BACKUPS": ("relay", "destination_backups"),
    "SMTP_DUP_RELAY_TIMEOUT_SECONDS": ("relay", "timeout_seconds"),
}
IMPORT_ADVICE = "`waypost config import` prints the native form, which can do more"
_PRIMARY: Path = ("relay", "destination_primary")


def _addresses(value: Any) -> Any:
    """A list, or text with commas, white space or JSON, as the variable has it."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
            return listed
        if value.lstrip()[1:2] in ('"', "]", ""):
            raise WrongValueError("is not a JSON list of addresses", 'write ["a.example.com:25", "b.example.com:25"]')
    return [word for word in re.split(r"[,\s]+", value) if word]


class SmtpSection(Section):
    """Where GoSMTP-dup listens."""

    listen: BoundAddress = Field(
        endpoints.bound_address("127.0.0.1:2525"), description="The listener's address; its mode is `relay`."
    )
    domain: HostName = Field("localhost", description="`hostname`.")


class RelaySection(Section):
    """Where GoSMTP-dup sends to."""

    destination_primary: UpstreamAddress = Field(description="The upstream of the route's `primary`.")
    destination_backups: Annotated[
        tuple[UpstreamAddress, ...], Short(_addresses, {"type": "string"}, "list of host:port")
    ] = Field((), description="The upstreams of the route's `copies`.")
    timeout_seconds: Annotated[int, *count_of(1, 86400), Words("number of seconds")] = Field(
        10, description="`timeouts` of all upstreams, every phase."
    )


class SmtpDupFile(Section):
    """The whole file."""

    smtp: SmtpSection = Field(SmtpSection(), description="")
    relay: RelaySection = Field(description="")


def overlay(tree: Tree, environ: Mapping[str, str]) -> list[Problem]:
    """Puts the `SMTP_DUP_` variables into `tree`, the old file, and says which of them mean nothing."""
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        path, value = VARIABLES.get(variable), environ[variable]
        if path is None:
            if not is_foreign(variable):
                problems.append(Problem(variable, "", "there is no such variable", did_you_mean(variable, VARIABLES)))
        elif (value or path[-1] == "destination_backups") and not tree.put(path, value, Origin(variable)):
            problems.append(Problem(variable, "", "cannot be used: the file has no mapping where it belongs"))
    return problems


def is_set(environ: Mapping[str, str]) -> bool:
    """Whether any `SMTP_DUP_` variable is there: a misspelt one shows as well what was meant."""
    return any(value and name.startswith(PREFIX) and not is_foreign(name) for name, value in environ.items())


def missing_primary(tree: Tree) -> Problem | None:
    """The one required setting, asked for by every name that it has."""
    if tree.get(_PRIMARY) is not None:
        return None
    where = f"in {tree.source} or " if tree.source else ""
    advice = f"set relay.destination_primary {where}with SMTP_DUP_RELAY_DESTINATION_PRIMARY, like old.example.com:25"
    return tree.problem(_PRIMARY, "is required: the server whose answer the sender gets", advice)


def convert(old: SmtpDupFile, tree: Tree) -> tuple[Tree, list[Problem]]:
    """The native form of the old file, and what is said about it on every start."""
    native = Tree(tree.source)

    def origin(path: Path) -> Origin:
        found = tree.origin(path)
        if found is None:
            return Origin(f"{FORMAT} default")
        return Origin(found.source, found.line, found.column, key_text(path))

    listen, domain = origin(("smtp", "listen")), origin(("smtp", "domain"))
    given = Origin(f"{FORMAT} format")
    warnings = [Problem(tree.source or "the environment", "", "is in the format of GoSMTP-dup", IMPORT_ADVICE)]

    native.put(("hostname",), old.smtp.domain, domain)
    listener: dict[str, Data] = {"address": old.smtp.listen.text, "mode": "relay"}
    if not endpoints.is_loopback(old.smtp.listen.host):
        listener |= {"trusted_networks": ["0.0.0.0/0", "::/0"], "allow_open_relay": "true"}
        warnings.append(
            tree.problem(
                ("smtp", "listen"),
                f"OPEN RELAY: {old.smtp.listen} takes mail from everybody for everybody, as GoSMTP-dup did",
                "let nobody but your own servers reach it, or import the file and set `trusted_networks`",
            )
        )
    native.put(("listeners",), [listener], listen)
    native.mark(("listeners", 0), listen)
    for key in listener:
        native.mark(("listeners", 0, key), listen if key == "address" else given)

    namer = Namer()
    names: dict[str, str] = {}
    timeout = origin(("relay", "timeout_seconds"))

    def upstream(endpoint: endpoints.Endpoint, where: Origin) -> str:
        if endpoint.text not in names:
            name = names[endpoint.text] = namer.name(host_of(endpoint.text), endpoint.text)
            native.put(("upstreams", name, "address"), endpoint.text, where)
            for section in ("timeouts", "background_timeouts"):
                native.put(("upstreams", name, section), values.duration_text(old.relay.timeout_seconds), timeout)
        return names[endpoint.text]

    primary = old.relay.destination_primary
    native.put(("routes", "all", "primary"), upstream(primary, origin(_PRIMARY)), origin(_PRIMARY))
    copies: list[Data] = []
    backups: Path = ("relay", "destination_backups")
    for index, endpoint in enumerate(old.relay.destination_backups):
        name = upstream(endpoint, origin((*backups, index)))
        if name not in copies:
            copies.append(name)
            native.mark(("routes", "all", "copies", len(copies) - 1), origin((*backups, index)))
    if copies:
        native.put(("routes", "all", "copies"), copies, origin(backups))
    return native, warnings
