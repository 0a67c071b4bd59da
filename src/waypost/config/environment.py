"""Settings from environment variables, over those of the file.

Names are made from the schema: `log.level` is `WAYPOST_LOG_LEVEL`. What the user has named himself, accounts and
upstreams, has variables for its secrets only. Empty variables count as not set, as compose files leave them.
"""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath

from waypost.config.document import Tree
from waypost.config.errors import Origin, Path, Problem, WrongValueError, did_you_mean
from waypost.config.fields import Short
from waypost.config.schema import Configuration
from waypost.config.walk import settings_of, shape_at

PREFIX = "WAYPOST_"
CONFIG = "WAYPOST_CONFIG"
RESERVED = "WAYPOST_TEST_"  # for the test-suite
SPOOL_PLACES = ("path", "url", "url_file")
"""The settings of `spool` of which one is set."""
_SECRETS: tuple[tuple[str, str, Path], ...] = (
    ("accounts", "WAYPOST_ACCOUNT_{}_PASSWORD", ("password",)),
    ("upstreams", "WAYPOST_UPSTREAM_{}_PASSWORD", ("auth", "password")),
    ("upstreams", "WAYPOST_UPSTREAM_{}_CLIENT_SECRET", ("auth", "oauth2", "client_secret")),
    ("upstreams", "WAYPOST_UPSTREAM_{}_REFRESH_TOKEN", ("auth", "oauth2", "refresh_token")),
)
"""The section whose names are the user's, the variable, and what it sets there; each has a twin with `_FILE`."""
_SERVICE = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def variables() -> dict[str, Path]:
    """Every variable with a fixed name, and the setting that it sets."""
    return {
        PREFIX + "_".join(str(part) for part in setting.path).upper(): setting.path
        for setting in settings_of(Configuration)
        if setting.shape.container == "one" and "NAME" not in setting.path and 0 not in setting.path
    }


def secret_variables(tree: Tree) -> dict[str, Path]:
    """The variables for secrets of the accounts and upstreams in `tree`, without and with `_FILE`."""
    found: dict[str, Path] = {}
    for section, pattern, inside in _SECRETS:
        named = tree.get((section,))
        for name in named if isinstance(named, dict) else ():
            variable = pattern.format(re.sub(r"[^A-Z0-9]", "_", name.upper()))
            path: Path = (section, name, *inside)
            found.setdefault(variable, path)
            found.setdefault(f"{variable}_FILE", (*path[:-1], f"{path[-1]}_file"))
    return found


def is_foreign(variable: str) -> bool:
    """Whether Kubernetes made the variable: it gives every container some for each service, `waypost` or not."""
    return _SERVICE.fullmatch(variable) is not None


def overlay(tree: Tree, environ: Mapping[str, str]) -> list[Problem]:
    """Puts the `WAYPOST_` variables of `environ` into `tree`, and says which of them mean nothing."""
    problems = []
    fixed, secrets = variables(), secret_variables(tree)
    known = {**secrets, **fixed}
    for variable in sorted(environ):
        value = environ[variable]
        if not variable.startswith(PREFIX) or variable == CONFIG or variable.startswith(RESERVED):
            continue
        path = known.get(variable)
        if path is None:
            if is_foreign(variable):
                continue
            advice = did_you_mean(variable, (*known, CONFIG))
            problems.append(Problem(variable, "", "there is no such variable", advice))
        elif _SURROGATE.search(value):
            problems.append(Problem(variable, "", "is not valid UTF-8"))
        elif value:
            if variable in secrets:
                key = str(path[-1])
                other = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
                if environ.get(f"{variable}_FILE"):
                    problems.append(Problem(variable, "", f"is set, and so is {variable}_FILE", "set one of them"))
                tree.drop((*path[:-1], other))
            if not put(tree, path, value, Origin(variable)):
                problems.append(Problem(variable, "", "cannot be used: the file has no mapping where it belongs"))
            elif path[0] == "spool" and path[-1] in SPOOL_PLACES:
                for other in SPOOL_PLACES:  # the file's give way; several variables are a mistake
                    if not environ.get(f"{PREFIX}SPOOL_{other.upper()}"):
                        tree.drop(("spool", other))
    return problems


def put(tree: Tree, path: Path, value: str, origin: Origin) -> bool:
    """Sets one setting, where the file has the short form of what is around it as well. False when it cannot."""
    for depth in range(1, len(path)):
        here = path[:depth]
        short, shape, written = tree.get(here), shape_at(Configuration, here), tree.origin(here)
        marks = [mark for mark in shape.metadata if isinstance(mark, Short)] if shape else []
        if not isinstance(short, str) or not marks or written is None:
            continue
        long = marks[0].expand(short)
        tree.put(here, long, written)
        for key in long:
            tree.mark((*here, key), written)
    return tree.put(path, value, origin)


def read_secret(path: str) -> str:
    """The secret in a file, without one line end at its end. Raises `WrongValueError` when it cannot be read."""
    try:
        content = FilePath(path).read_bytes()
    except OSError as error:
        raise WrongValueError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise WrongValueError(f"cannot use {path}: it is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise WrongValueError(f"cannot use {path}: it is empty")
    if any(character in text for character in "\0\r\n"):
        raise WrongValueError(f"cannot use {path}: a password has one line")
    return text
