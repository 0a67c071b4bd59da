"""Finds the configuration, reads all its sources, checks the whole, and hands it out as `Settings`."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from waypost.config import ancestors, environment, preset_fill, smtp_dup, smtpmux
from waypost.config.ancestors import Format
from waypost.config.build import build
from waypost.config.check import check
from waypost.config.document import Tree, parse
from waypost.config.errors import DEFAULT, ConfigurationError, Origin, Path, Problem
from waypost.config.fields import Short
from waypost.config.schema import Configuration
from waypost.config.settings import Settings
from waypost.config.spool import find as find_spool
from waypost.config.spool import lasting_folder
from waypost.config.validate import validate
from waypost.config.values import host_name
from waypost.config.walk import shape_at

PLACES = ("./waypost.yaml", "./config.yaml", "/etc/waypost/waypost.yaml", "/etc/smtp-dup/config.yaml")
"""Where the configuration is looked for, in this order, when nobody names it."""

FLAG = Origin("command line")
MAX_FILE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with everything that is known about it. `tree` is its native form as it was written."""

    source: str  # the file, or "" when there is none
    format: Format
    tree: Tree
    model: Configuration
    settings: Settings

    def origin(self, path: Path) -> Origin:
        """Where the value of a setting comes from."""
        written = self.tree.written(path)
        if written is not None and len(written) < len(path):
            shape = shape_at(Configuration, written)
            shorts = [mark.keys for mark in shape.metadata if isinstance(mark, Short)] if shape else []
            decided = next((part for part in path[len(written) :] if isinstance(part, str)), None)
            if not any(not keys or decided in keys for keys in shorts):
                return DEFAULT  # a short form decides one setting and leaves the others
        return self.tree.origin(path) or DEFAULT


def load(config_path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Settings:
    """The checked settings; `config_path` and `overrides` are as in `read`. Raises `ConfigurationError`."""
    return read(config_path, environ, overrides).settings


def read(config_path: str | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Loaded:
    """The checked configuration with its origins.

    `config_path` is the file that was asked for on the command line; None looks in the usual places. `overrides`
    are settings from the command line by their dotted names, `{"log.level": "debug"}`; they come before the
    environment, which comes before the file. Raises `ConfigurationError` with every mistake.
    """
    tree, kind, warnings, problems = _native(*_file(config_path, environ), environ)
    problems += ancestors.misplaced(kind, tree, environ)
    problems += environment.overlay(tree, environ)
    for name, value in (overrides or {}).items():
        if not environment.put(tree, tuple(name.split(".")), value, FLAG):
            problems.append(Problem(str(FLAG), name, "cannot be used: the file has no mapping where it belongs"))
    problems += preset_fill.fill(tree)
    if kind == "smtpmux":
        warnings.append(smtpmux.settle_acceptance(tree, *lasting_folder(tree, environ)))
    validated = validate(Configuration, tree)
    own_name = _own_name()
    report, secrets = check(validated, tree, own_name)
    model = validated.model
    spool = None if model is None else find_spool(model, report, tree, environ)
    # What could not be read is missing afterwards, which is not worth another word.
    unread = {problem.key for problem in problems}
    problems += [problem for problem in validated.problems + report.problems if problem.key not in unread]
    if model is None or problems:
        raise ConfigurationError(_in_order(problems))
    if model.hostname is None:
        tree.put(("hostname",), own_name, Origin("default, the name of this machine"))
    settings = build(
        model,
        secrets,
        hostname=model.hostname or own_name,
        spool=spool,
        warnings=tuple(map(str, [*warnings, *(said for said in report.warnings if not _is_said(said, warnings))])),
        origin=tree.place,
        lists=report.lists,
    )
    return Loaded(tree.source, kind, tree, validate(Configuration, tree).model or model, settings)


def native_form(config_path: str | None, environ: Mapping[str, str]) -> tuple[Tree, Format, list[Problem]]:
    """The file in its native form, unchecked when it is written in that; its format; and warnings about it.

    Variables of the old formats are part of it. An empty file in one of the usual places is passed over: the shell
    makes one before `waypost config import > waypost.yaml` begins. Raises `ConfigurationError`.
    """
    tree, kind, warnings, problems = _native(*_file(config_path, environ, pass_over_empty=True), environ)
    if problems:
        raise ConfigurationError(_in_order(problems))
    if kind == "smtpmux":
        warnings.append(replace(smtpmux.QUEUED, place=tree.source))
    return tree, kind, warnings


def _native(
    tree: Tree, problems: list[Problem], environ: Mapping[str, str]
) -> tuple[Tree, Format, list[Problem], list[Problem]]:
    """As `native_form`, of what `_file` has read, with the mistakes of form that leave something to be checked, such as
    a key that is there twice."""
    if problems and not tree.data:
        raise ConfigurationError(problems)
    kind = ancestors.recognise(tree, environ)
    if kind == "native":
        return tree, kind, [], problems
    native, mistakes, warnings = ancestors.convert(kind, tree, environ)
    if native is None or problems:
        unread = {problem.key for problem in problems}
        problems += [problem for problem in mistakes if problem.key not in unread]
        raise ConfigurationError(_in_order(problems + ancestors.misplaced(kind, tree, environ)))
    return native, kind, warnings, []


def _is_said(warning: Problem, warnings: list[Problem]) -> bool:
    """Whether an old format's own words have said the same: who migrates should read about his file, not ours."""
    topic = warning.text.partition(":")[0]
    return topic in {said.text.partition(":")[0] for said in warnings}


def _in_order(problems: list[Problem]) -> list[Problem]:
    def order(problem: Problem) -> tuple[str, int, int]:
        source, *numbers = problem.place.rsplit(":", 2)
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            return source, int(numbers[0]), int(numbers[1])
        return problem.place, 0, 0

    return sorted(dict.fromkeys(problems), key=order)


def _file(
    config_path: str | None, environ: Mapping[str, str], *, pass_over_empty: bool = False
) -> tuple[Tree, list[Problem]]:
    """The file that holds the configuration, read; an empty tree when variables alone are enough."""
    named = config_path or environ.get(environment.CONFIG)
    if named:
        asked = "--config" if config_path else environment.CONFIG
        return _read_file(named, f"{asked} names it")
    for place in PLACES:
        try:
            found = FilePath(place).is_file() and not (pass_over_empty and FilePath(place).stat().st_size == 0)
        except OSError:  # a folder that we may not enter: whether there is a file, reading it will say
            found = True
        if found:
            return _read_file(place.removeprefix("./"), "it is one of the usual places")
    if smtp_dup.is_set(environ):
        return Tree(), []
    advice = "`waypost config init > waypost.yaml` begins one, --config or WAYPOST_CONFIG names one"
    text = f"there is no configuration: none of {', '.join(PLACES)}, and no SMTP_DUP_ variables"
    return Tree(), [Problem("", "", text, advice)]


def _read_file(path: str, because: str) -> tuple[Tree, list[Problem]]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Tree(path), [Problem(path, "", f"cannot be read ({because}): {why}")]
    if len(content) > MAX_FILE:
        return Tree(path), [Problem(path, "", "is larger than 16 MiB, which no configuration is")]
    return parse(path, content)


def _own_name() -> str:
    try:
        return host_name(socket.gethostname())
    except ValueError:
        return "localhost"
