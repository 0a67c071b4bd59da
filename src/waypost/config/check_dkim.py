"""Checks of the keys that mail is signed with."""

import os
import stat
from importlib.util import find_spec

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_rewrite import DkimSection
from waypost.mail.dkim_key import GOOD_BITS, LIBRARY, DkimKeyError, read_key
from waypost.smtp.sasl import Secret

MAX_FILE = 64 * 1024


def check(model: Configuration, report: Report) -> dict[Path, Secret]:
    """Reports what is wrong with the keys, and finds them, by the paths of their files."""
    found: dict[Path, Secret] = {}
    if not model.dkim:
        return found
    seen: set[tuple[str, str]] = set()
    if find_spec(LIBRARY) is None:
        text = f"needs the Python package {LIBRARY}, which is not installed"
        report.problem(("dkim",), text, "install waypost[dkim]", key=True)
        return found
    if not any(listener.mode == "submission" for listener in model.listeners) and model.listeners:
        text = "has no effect: only mail from submission listeners is signed, and there is none"
        report.warn(("dkim",), text, key=True)
    for index, section in enumerate(model.dkim):
        here: Path = ("dkim", index)
        name = (section.domain, section.selector)
        if name in seen and not report.is_lost(*here):
            text = f"there is a key {section.selector} for {section.domain} already"
            report.problem((*here, "selector"), text, "each key has a selector of its own")
        seen.add(name)
        if "from" not in map(str.lower, section.headers) and not report.is_lost(*here, "headers"):
            report.problem((*here, "headers"), "lacks From, which every signature covers", "add it")
        if not report.is_lost(*here, "key_file"):
            _check_key((*here, "key_file"), section, report, found)
    return found


def _check_key(path: Path, section: DkimSection, report: Report, found: dict[Path, Secret]) -> None:
    file = section.key_file
    try:
        with open(file, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            pem = opened.read(MAX_FILE)
        key = read_key(pem)
    except OSError as error:
        report.problem(path, f"cannot read {file}: {error.strerror}")
        return
    except DkimKeyError as error:
        report.problem(path, f"cannot use {file}: {error}", "`openssl genrsa -out FILE 2048` makes a key")
        return
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        report.warn(path, f"{file} can be read by everybody on this machine", f"chmod 640 {file}")
    if key.algorithm == "rsa-sha256" and key.bits < GOOD_BITS:
        text = f"{file} has an RSA key of {key.bits} bits, which is too short to be trusted for long"
        report.warn(path, text, f"make one of {GOOD_BITS} bits, under a new selector")
    found[path] = Secret(pem.decode("ascii", "ignore"))
