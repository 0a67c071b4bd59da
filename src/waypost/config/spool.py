"""Where mail is kept: whether a spool is needed at all, and which it is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path as FilePath

from waypost.config import check_quotas
from waypost.config.database import database_url
from waypost.config.document import Tree
from waypost.config.environment import SPOOL_PLACES, read_secret
from waypost.config.errors import Origin, WrongValueError
from waypost.config.report import Report
from waypost.config.schema import Configuration, JournalSection, SpoolSection
from waypost.config.settings import SpoolSettings
from waypost.store.file_system import temporary_file_system

DRIVER = "asyncpg"
_VARIABLE = "WAYPOST_SPOOL_PATH"


@dataclass(frozen=True, slots=True)
class Need:
    """What a spool is needed for, and what would do without."""

    what: str
    otherwise: str


def needed_for(model: Configuration, report: Report) -> Need | None:
    """The first thing that a spool is needed for, or None. A route counts as reached wherever it may be."""
    for name, route in model.routes.items():
        if route.copies:
            return Need(f"the copies of the route {name}", "")
    for name, route in model.routes.items():
        if route.acceptance not in (None, "pass"):
            return Need(f"the route {name} with `acceptance: {route.acceptance}`", "set `acceptance: pass`")
    submission = [
        listener.address.text
        for index, listener in enumerate(model.listeners)
        if listener.mode == "submission" and not report.is_lost("listeners", index)
    ]
    for name, route in model.routes.items():
        if submission and route.acceptance is None and not report.is_lost("routes", name, "acceptance"):
            what = f"mail from {submission[0]} on the route {name}, which is `hybrid` for submission listeners"
            return Need(
                what, f"set `acceptance: pass` on {name}, so that mail is refused when it cannot go out at once"
            )
    return None


def find(model: Configuration, report: Report, tree: Tree, environ: Mapping[str, str]) -> SpoolSettings | None:
    """The spool to use; a folder that was found is put into `tree`. None when none is needed, or after a report."""
    section = model.spool
    given = [key for key in SPOOL_PLACES if getattr(section, key) is not None]
    for key in given[1:]:
        report.problem(("spool", key), f"is set, and so is spool.{given[0]}", "set one of them")
    if given:
        url = _url(section, report)
        _check_folder(section.path, section, report)
        return SpoolSettings(section.path, url, section.allow_temporary, section.keep_dead)
    need = None if report.is_lost("spool") else needed_for(model, report)
    if need is None:
        if model.journal.keep not in (0, JournalSection().keep):
            report.warn(("journal",), "has no effect: it is kept with the spool, and no route needs one", "set `spool`")
        if not report.is_lost("spool"):
            check_quotas.warn_of_memory(model, report)
        return None
    folder, because = default_folder(environ)
    if folder is None:
        advice = f"set `spool` or {_VARIABLE} to a folder that can be written"
        report.problem(
            ("spool",), f"is needed for {need.what}; {because}", f"{advice}, or {need.otherwise}".removesuffix(", or ")
        )
        return None
    tree.put(("spool", "path"), folder, Origin(f"default, {because}"))
    _check_folder(folder, section, report)
    return SpoolSettings(folder, None, section.allow_temporary, section.keep_dead)


def _check_folder(folder: str | None, section: SpoolSection, report: Report) -> None:
    """The store refuses such a folder as well, but `check` connects to no store."""
    if folder is None or section.allow_temporary or report.is_lost("spool", "allow_temporary"):
        return
    name = temporary_file_system(FilePath(folder))
    if name is not None:
        report.problem(
            ("spool", "path"),
            f"{folder} is on a temporary file system ({name}): what waits there is lost with the machine's memory",
            "use a folder on a disk, or, if you mean it, set `spool.allow_temporary: true`",
        )


def _url(section: SpoolSection, report: Report) -> str | None:
    """The address of the database, with the package that speaks to it."""
    url, key = section.url, "url"
    if url is None and section.url_file is not None:
        key = "url_file"
        try:
            url = database_url(read_secret(section.url_file))
        except WrongValueError as error:
            report.problem(("spool", key), error.text, error.suggestion)
    if url is None:
        return None
    if find_spec(DRIVER) is None:
        text = f"needs the Python package {DRIVER}, which is not installed"
        report.problem(("spool", key), text, f"`pip install {DRIVER}` where Waypost is installed")
    return url.reveal()


def default_folder(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """The folder when none is set, and why it is that one; or None, and why there is none."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd lists several with colons
    if state:
        return state, "$STATE_DIRECTORY"
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local/state")
    candidates = (
        ("/var/lib/waypost", "the usual place"),
        (os.path.join(home, "waypost"), "the state folder of the user"),
    )
    for path, because in candidates:
        if os.path.isabs(path) and os.access(_nearest(path), os.W_OK | os.X_OK):
            return path, because
    return None, f"neither {candidates[0][0]} nor {candidates[1][0]} can be written"


def lasting_folder(tree: Tree, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """As `default_folder`, but None for one that would be refused because it is on a temporary file system."""
    folder, because = default_folder(environ)
    allowed = tree.get(("spool", "allow_temporary")) is not None  # if it says no, that is an error of its own
    name = None if folder is None or allowed else temporary_file_system(FilePath(folder))
    if name is not None:
        return None, f"{folder} is on a temporary file system ({name})"
    return folder, because


def _nearest(path: str) -> str:
    """The folder, or the nearest above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
