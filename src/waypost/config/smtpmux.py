"""smtpmux's format, and its native form.

Each user becomes an account with a pool and a route of his own; each of his downstreams an upstream. The same
address with other credentials is another upstream. The queue that smtpmux's diagram shows is there: the routes are
`hybrid`.
"""

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from waypost.config import values
from waypost.config.document import Data, Tree
from waypost.config.environment import SPOOL_PLACES
from waypost.config.errors import Origin, Path, Problem, WrongValueError, key_text
from waypost.config.fields import Password, Section, StandIn, Text, UpstreamAddress, Words, free_text
from waypost.config.names import Namer, host_of
from waypost.config.report import Report
from waypost.config.smtp_dup import IMPORT_ADVICE
from waypost.plugins.kinds import KINDS
from waypost.plugins.port import Definition
from waypost.smtp.address import AddressError, parse_mailbox
from waypost.smtp.sasl import Secret

FORMAT = "smtpmux"
INSECURE = "USE_INSECURE_AUTH"
ADDRESS = ":1020"
_ROUND_ROBIN = "round-robin-plugin"


class Downstream(Section):
    """A provider of one user."""

    addr: Annotated[UpstreamAddress, StandIn("unknown.invalid:25")] = Field(
        description="`address` of an upstream. Port 465 is implicit TLS, every other port STARTTLS when it is offered."
    )
    user: Annotated[str, *free_text(), Words("text")] = Field(
        "", description="`auth.username`; without it there is no AUTH. When it is an address, also `rewrite`."
    )
    # `pass` is a keyword of Python, so the model's field has another name.
    password: Annotated[Secret, *free_text(Secret), Words("secret")] = Field(
        Secret(""), alias="pass", description="`auth.password`."
    )


class User(Section):
    """Someone who submits."""

    email: Annotated[Text, StandIn("unknown")] = Field(description="The account's name.")
    password: Annotated[Password, StandIn("unknown")] = Field(description="The account's `password`.")
    selector_algo_path: Annotated[str, *free_text(), Words("path")] = Field(
        "",
        description="`strategy` of the account's pool: `round_robin` for a path ending in `round-robin-plugin`, "
        "`ordered` otherwise. Any other path becomes `plugin` of the pool: a Python file when it ends in "
        "`.py`, a Starlark script when it ends in `.star`, otherwise a Go program built for smtpmux.",
    )
    downstreams: tuple[Downstream, ...] = Field(min_length=1, description="The pool's `upstreams`, in this order.")


class SmtpmuxFile(Section):
    """The whole file."""

    users: tuple[User, ...] = Field(min_length=1, description="")


def check(old: SmtpmuxFile, report: Report) -> None:
    """Reports what the native form could not express."""
    seen: dict[str, int] = {}
    for index, user in enumerate(old.users):
        path: Path = ("users", index)
        if not report.is_lost(*path, "email"):
            if user.email in seen:
                report.problem((*path, "email"), "is there twice", f"the first is on line {seen[user.email]}")
            seen.setdefault(user.email, report.place((*path, "email")).line)
        kind = _kind(user.selector_algo_path)
        if kind is not None:
            fault = KINDS[kind].fault(Definition("", kind, (_path(user.selector_algo_path),)))
            if fault is not None:
                report.problem((*path, "selector_algo_path"), fault)
        for number, downstream in enumerate(user.downstreams):
            here: Path = (*path, "downstreams", number)
            if report.is_lost(*here, "user") or report.is_lost(*here, "pass"):
                continue
            if downstream.user and not downstream.password.reveal():
                report.problem((*here, "pass"), "is required where there is a user")


def insecure(environ: Mapping[str, str]) -> tuple[bool, list[Problem]]:
    """What `USE_INSECURE_AUTH` says."""
    text = environ.get(INSECURE, "")
    try:
        return bool(text) and values.truth(text), []
    except WrongValueError as error:
        return False, [Problem(INSECURE, "", error.text)]


def convert(old: SmtpmuxFile, tree: Tree, *, plaintext: bool) -> tuple[Tree, list[Problem]]:
    """The native form of the old file, and what is said about it on every start.

    `plaintext` lets credentials go to providers without TLS.
    """
    native = Tree(tree.source)
    given = Origin(f"{FORMAT} format")
    warnings = [
        Problem(tree.source, "", "is in the format of smtpmux", IMPORT_ADVICE),
        Problem(tree.source, "", f"{ADDRESS} takes passwords without TLS from every network, as smtpmux did"),
    ]
    if plaintext:
        text = "is on: passwords go to providers even where they offer no TLS"
        warnings.append(Problem(INSECURE, "", text))
    elif any(downstream.user and downstream.addr.port != 465 for user in old.users for downstream in user.downstreams):
        text = "unverified TLS: passwords go to providers whose certificate nobody checks, as with smtpmux"
        warnings.append(Problem(tree.source, "", text, "import the file and set `tls: starttls` where it works"))

    def origin(path: Path) -> Origin:
        found = tree.place(path)
        return Origin(found.source, found.line, found.column, key_text(path))

    listener: dict[str, Data] = {"address": ADDRESS, "mode": "submission", "allow_plaintext_auth": "true"}
    native.put(("listeners",), [listener], given)
    for path in ((), ("address",), ("mode",), ("allow_plaintext_auth",)):
        native.mark(("listeners", 0, *path), given)

    namer = Namer()
    providers = {(d.addr.text, d.user) for user in old.users for d in user.downstreams}
    # Pools come first: an account's name is the one that its owner looks for.
    pools = [namer.name(user.email, f"pool-{user.email}") for user in old.users]
    names: dict[tuple[str, str, str], str] = {}
    for index, (user, pool) in enumerate(zip(old.users, pools, strict=True)):
        here: Path = ("users", index)
        members: list[Data] = []
        for number, downstream in enumerate(user.downstreams):
            where: Path = (*here, "downstreams", number)
            key = (downstream.addr.text, downstream.user, downstream.password.reveal())
            if key not in names:
                names[key] = _name(namer, downstream, providers)
                _put_upstream(native, names[key], downstream, lambda part, w=where: origin((*w, part)), plaintext)
            if names[key] not in members:
                native.mark(("pools", pool, "upstreams", len(members)), origin((*where, "addr")))
                members.append(names[key])
        selector = (*here, "selector_algo_path")
        strategy = "round_robin" if user.selector_algo_path.endswith(_ROUND_ROBIN) else "ordered"
        kind = _kind(user.selector_algo_path)
        if kind is not None:
            plugin = _plugin(native, user.selector_algo_path, kind, origin(selector))
            native.put(("pools", pool, "plugin"), plugin, origin(selector))
        native.put(("pools", pool, "strategy"), strategy, origin(selector) if tree.get(selector) else given)
        native.put(("pools", pool, "upstreams"), members, origin((*here, "downstreams")))
        native.put(("routes", pool, "primary"), pool, given)
        native.put(("routes", pool, "acceptance"), "hybrid", given)
        native.put(("accounts", user.email, "password"), user.password.reveal(), origin((*here, "password")))
        native.put(("accounts", user.email, "route"), pool, given)
        native.mark(("accounts", user.email), origin((*here, "email")))
    return native, warnings


QUEUED = Problem(
    "",
    "acceptance",
    "mail that no provider can take at once is kept and tried again for five days, as smtpmux's diagram has it",
    "with `acceptance: pass` on the routes of the native form it is refused for now instead, as smtpmux did",
)


def settle_acceptance(native: Tree, folder: str | None, because: str) -> Problem:
    """What is said of the queue on every start.

    Who brings an old file has no folder for a queue, perhaps: then mail is refused when it cannot go out at once, as
    it was by smtpmux, rather than not taken at all. `folder` and `because` are of the default.
    """
    if folder is not None or any(native.get(("spool", key)) is not None for key in SPOOL_PLACES):
        return replace(QUEUED, place=native.source)
    routes = native.get(("routes",))
    for name in routes if isinstance(routes, dict) else ():
        native.put(("routes", name, "acceptance"), "pass", Origin(f"default, {because}"))
    return Problem(
        native.source,
        "acceptance",
        f"no queue: {because}, so mail that no provider can take at once is refused for now (`acceptance: pass`)",
        "set WAYPOST_SPOOL_PATH to a folder that can be written, and it is kept and tried again for five days",
    )


def _kind(path: str) -> str | None:
    """The kind of plugin that a selector is; None for the round robin, and for none."""
    if not path or path.endswith(_ROUND_ROBIN):
        return None
    return {".py": "python", ".star": "starlark"}.get(path[path.rfind(".") :] if "." in path else "", "go")


def _path(selector: str) -> str:
    """The path of a selector; one without a slash is a file in the working directory, not a name."""
    return selector if "/" in selector else f"./{selector}"


def _plugin(native: Tree, path: str, kind: str, origin: Origin) -> str:
    """The name of the plugin for a selector; the same for all users who have it."""
    plugins = native.get(("plugins",))
    known = plugins if isinstance(plugins, dict) else {}
    path = _path(path)
    for name, section in known.items():
        if isinstance(section, dict) and section.get(kind) == path:
            return name
    namer = Namer()
    for name in known:
        namer.name(name)
    name = namer.name(path.rpartition("/")[2])
    native.put(("plugins", name, kind), path, origin)
    return name


def _name(namer: Namer, downstream: Downstream, providers: Set[tuple[str, str]]) -> str:
    """The host, with the port and the user only where there are several on it."""
    address = downstream.addr.text
    host = host_of(address)
    if len({text for text, _ in providers if host_of(text) == host}) > 1:
        host = f"{host}-{downstream.addr.port}"
    user = downstream.user.replace("@", "-at-")
    if user and len({user for text, user in providers if text == address}) > 1:
        return namer.name(f"{host}-{user}")
    return namer.name(host)


def _put_upstream(native: Tree, name: str, downstream: Downstream, origin: Any, plaintext: bool) -> None:
    here: Path = ("upstreams", name)
    given = Origin(f"{FORMAT} format")
    native.put((*here, "address"), downstream.addr.text, origin("addr"))
    native.put((*here, "tls"), "implicit" if downstream.addr.port == 465 else "opportunistic", given)
    if not downstream.user:
        return
    native.put((*here, "auth", "username"), downstream.user, origin("user"))
    native.put((*here, "auth", "password"), downstream.password.reveal(), origin("pass"))
    if plaintext:
        native.put((*here, "allow_plaintext_auth"), "true", Origin(INSECURE))
    try:
        native.put((*here, "rewrite"), str(parse_mailbox(downstream.user)), origin("user"))
    except AddressError:
        pass  # a login name such as `apikey` is no address, so the client's own stays (defect S5)
