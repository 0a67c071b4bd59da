"""smtpmux's format, and its native form.

Each user becomes an account with a pool and a route of his own; each of his downstreams an upstream. The same
address with other credentials is another upstream.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from waypost.config import values
from waypost.config.document import Data, Tree
from waypost.config.errors import Origin, Path, Problem, WrongValueError, key_text
from waypost.config.fields import Password, Section, Text, UpstreamAddress, Words, free_text
from waypost.config.names import Namer, host_of
from waypost.config.smtp_dup import IMPORT_ADVICE
from waypost.smtp.address import AddressError, parse_mailbox
from waypost.smtp.sasl import Secret

FORMAT = "smtpmux"
INSECURE = "USE_INSECURE_AUTH"
ADDRESS = ":1020"
_ROUND_ROBIN = "round-robin-plugin"


class Downstream(Section):
    """A provider of one user."""

    addr: UpstreamAddress = Field(
        description="`address` of an upstream. Port 465 is implicit TLS, every other port STARTTLS when it is offered."
    )
    user: Annotated[str, *free_text(), Words("text")] = Field(
        "", description="`auth.username`; without it there is no AUTH. When it is an address, also `rewrite_from`."
    )
    # `pass` is a keyword of Python, so the model's field has another name.
    password: Annotated[Secret, *free_text(Secret), Words("secret")] = Field(
        Secret(""), alias="pass", description="`auth.password`."
    )


class User(Section):
    """Someone who submits."""

    email: Text = Field(description="The account's name.")
    password: Password = Field(description="The account's `password`.")
    selector_algo_path: Annotated[str, *free_text(), Words("path")] = Field(
        "",
        description="`strategy` of the account's pool: `round_robin` for a path ending in `round-robin-plugin`, "
        "`ordered` without one. Other plugins and scripts are not in this version and are refused.",
    )
    downstreams: tuple[Downstream, ...] = Field(min_length=1, description="The pool's `upstreams`, in this order.")


class SmtpmuxFile(Section):
    """The whole file."""

    users: tuple[User, ...] = Field(min_length=1, description="")


def check(old: SmtpmuxFile, tree: Tree) -> list[Problem]:
    """What the native form could not express."""
    problems = []
    seen: dict[str, int] = {}
    for index, user in enumerate(old.users):
        path: Path = ("users", index)
        if user.email in seen:
            problems.append(tree.problem((*path, "email"), "is there twice", f"the first is users[{seen[user.email]}]"))
        seen.setdefault(user.email, index)
        if user.selector_algo_path and not user.selector_algo_path.endswith(_ROUND_ROBIN):
            problems.append(
                tree.problem(
                    (*path, "selector_algo_path"),
                    "names a plugin or script, which this version cannot run",
                    "leave it out to try the downstreams in order, or use the built-in round robin with a path that "
                    f"ends in {_ROUND_ROBIN}",
                )
            )
        for number, downstream in enumerate(user.downstreams):
            if downstream.user and not downstream.password.reveal():
                here = (*path, "downstreams", number, "pass")
                problems.append(tree.problem(here, "is required where there is a user"))
    return problems


def insecure(environ: Mapping[str, str]) -> tuple[bool, list[Problem]]:
    """What `USE_INSECURE_AUTH` says."""
    text = environ.get(INSECURE, "")
    try:
        return bool(text) and values.truth(text), []
    except WrongValueError as error:
        return False, [Problem(INSECURE, "", error.text)]


def convert(old: SmtpmuxFile, tree: Tree, *, plaintext: bool) -> tuple[Tree, list[str]]:
    """The native form of the old file, and what is said about it on every start.

    `plaintext` lets credentials go to providers without TLS.
    """
    native = Tree(tree.source)
    given = Origin(f"{FORMAT} format")
    warnings = [
        f"{tree.source} is in the format of smtpmux; {IMPORT_ADVICE}",
        f"{ADDRESS} takes passwords without TLS from every network, as smtpmux did",
    ]
    if plaintext:
        warnings.append(f"{INSECURE} is on: passwords go to providers even where they offer no TLS")

    def origin(path: Path) -> Origin:
        found = tree.place(path)
        return Origin(found.source, found.line, found.column, key_text(path))

    listener: dict[str, Data] = {"address": ADDRESS, "mode": "submission", "allow_plaintext_auth": "true"}
    native.put(("listeners",), [listener], given)
    for path in ((), ("address",), ("mode",), ("allow_plaintext_auth",)):
        native.mark(("listeners", 0, *path), given)

    namer = Namer()
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
                names[key] = _name(namer, downstream)
                _put_upstream(native, names[key], downstream, lambda part, w=where: origin((*w, part)), plaintext)
            if names[key] not in members:
                native.mark(("pools", pool, "upstreams", len(members)), origin((*where, "addr")))
                members.append(names[key])
        selector = (*here, "selector_algo_path")
        strategy = "round_robin" if user.selector_algo_path else "ordered"
        native.put(("pools", pool, "strategy"), strategy, origin(selector) if tree.get(selector) else given)
        native.put(("pools", pool, "upstreams"), members, origin((*here, "downstreams")))
        native.put(("routes", pool, "primary"), pool, given)
        native.put(("accounts", user.email, "password"), user.password.reveal(), origin((*here, "password")))
        native.put(("accounts", user.email, "route"), pool, given)
        native.mark(("accounts", user.email), origin((*here, "email")))
    return native, warnings


def _name(namer: Namer, downstream: Downstream) -> str:
    address = downstream.addr.text
    host, user = host_of(address), downstream.user.replace("@", "-at-")
    return namer.name(host, *([f"{host}-{user}"] if user else []), address, f"{address}-{user}")


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
        native.put((*here, "rewrite_from"), str(parse_mailbox(downstream.user)), origin("user"))
    except AddressError:
        pass  # a login name such as `apikey` is no address, so the client's own stays (defect S5)
