"""The old formats: told apart from the native one by their top-level keys, and turned into it."""

from collections.abc import Mapping
from typing import Literal

from waypost.config import smtp_dup, smtpmux
from waypost.config.document import Tree
from waypost.config.environment import is_foreign
from waypost.config.errors import ConfigurationError, Problem, did_you_mean
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.smtp_dup import SmtpDupFile
from waypost.config.smtpmux import SmtpmuxFile
from waypost.config.validate import validate

Format = Literal["native", "smtpmux", "GoSMTP-dup"]

_KEYS: dict[Format, frozenset[str]] = {
    "native": frozenset(Configuration.model_fields),
    "smtpmux": frozenset(SmtpmuxFile.model_fields),
    "GoSMTP-dup": frozenset(SmtpDupFile.model_fields),
}


def recognise(tree: Tree, environ: Mapping[str, str]) -> Format:
    """The format of the file in `tree`. Raises `ConfigurationError` when it is none, or several at once."""
    if not tree.data:
        if smtp_dup.is_set(environ):
            return "GoSMTP-dup"
        advice = "`waypost config init` prints one to begin with"
        raise ConfigurationError([Problem(tree.source, "", "has no settings in it", advice)])
    first: dict[Format, str] = {}
    for key in tree.data:
        for kind, keys in _KEYS.items():
            if key in keys:
                first.setdefault(kind, key)
    if not first:
        word = next(iter(tree.data))
        advice = did_you_mean(word, frozenset().union(*_KEYS.values()))
        text = "is a setting of no format that Waypost reads"
        raise ConfigurationError([tree.problem((word,), text, advice, key=True)])
    kind, *others = first
    if others:
        raise ConfigurationError(
            tree.problem(
                (first[other],),
                f"belongs to the {other} format, but {first[kind]} belongs to the {kind} format",
                "a file has one format",
                key=True,
            )
            for other in others
        )
    return kind


def misplaced(kind: Format, tree: Tree, environ: Mapping[str, str]) -> list[Problem]:
    """The `SMTP_DUP_` variables that are set although the file is not GoSMTP-dup's."""
    if kind == "GoSMTP-dup":
        return []
    text = f"belongs to GoSMTP-dup, but {tree.source} is in the {kind} format, to which it cannot apply"
    return [
        Problem(variable, "", text, "remove the variable, or the file")
        for variable in sorted(environ)
        if variable.startswith(smtp_dup.PREFIX) and not is_foreign(variable)
    ]


def convert(kind: Format, tree: Tree, environ: Mapping[str, str]) -> tuple[Tree | None, list[Problem], list[Problem]]:
    """The native form of an old file, what is wrong with it, and what is said about it on every start."""
    if kind == "GoSMTP-dup":
        problems = smtp_dup.overlay(tree, environ)
        missing = smtp_dup.missing_primary(tree)
        dup = validate(SmtpDupFile, tree)
        absent = ("relay", "relay.destination_primary")
        if any(
            problem.suggestion in ("did you mean relay?", "did you mean destination_primary?")
            for problem in dup.problems
        ):
            missing = None  # it is there, under a name that is nearly right
        problems += [problem for problem in dup.problems if not missing or problem.key not in absent]
        problems += [missing] if missing else []
        if dup.model is None or problems:
            return None, problems, []
        native, warnings = smtp_dup.convert(dup.model, tree)
        return native, [], warnings
    plaintext, problems = smtpmux.insecure(environ)
    mux = validate(SmtpmuxFile, tree)
    problems += mux.problems
    if mux.model is not None:
        report = Report(mux, tree)
        smtpmux.check(mux.model, report)
        problems += report.problems
    if mux.model is None or problems:
        return None, problems, []
    native, warnings = smtpmux.convert(mux.model, tree, plaintext=plaintext)
    return native, [], warnings
