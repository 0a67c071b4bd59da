"""Checks of certificates that we show: that they can be read, belong to their keys, and have not expired."""

import ssl
import time
from collections.abc import Sequence

from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema_tls import CertificateSection
from waypost.net.x509 import certificate_in

_SOON = 14  # days


def check_pair(here: Path, certificate: str, key: str, report: Report) -> bool:
    """Reports a certificate and key that cannot be read or do not belong together; whether all is well."""
    readable = True
    for name, file in (("certificate", certificate), ("key", key)):
        if report.is_lost(*here, name):
            readable = False
            continue
        try:
            with open(file, "rb"):
                pass
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            report.problem((*here, name), f"cannot read {file}: {why}")
            readable = False
    if not readable:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without it, OpenSSL asks the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            report.problem((*here, "key"), f"{key} is not the key of {certificate}")
        else:
            advice = "both must be PEM files, and the key must have no password"
            report.problem(here, f"cannot use {certificate} with {key}", advice)
        return False
    _check_expiry((*here, "certificate"), certificate, report)
    return True


def _check_expiry(here: Path, certificate: str, report: Report) -> None:
    shown = certificate_in(certificate)
    left = None if shown is None else shown.days_left(time.time())
    if left is not None and left < 0:
        report.warn(here, f"{certificate} has ended, {-left} days ago", "clients will refuse it; renew it")
    elif left is not None and left < _SOON:
        report.warn(here, f"{certificate} ends in {left} days", "renew it; the files are read again")


def check_by_name(here: Path, sections: Sequence[CertificateSection], report: Report) -> None:
    """Reports further certificates that cannot be used, or that no name leads to."""
    taken: dict[str, str] = {}
    for index, section in enumerate(sections):
        path: Path = (*here, index)
        if not check_pair(path, section.certificate, section.key, report):
            continue
        shown = certificate_in(section.certificate)
        names = frozenset(name.lower() for name in shown.names) if shown is not None else frozenset()
        if not names:
            text = f"{section.certificate} has no host name in it, so nobody is ever shown it"
            report.problem((*path, "certificate"), text, "use a certificate with a DNS name")
        elif names <= taken.keys():
            name = min(names)
            report.warn((*path, "certificate"), f"has no effect: {taken[name]} is for {name}, too, and comes before it")
        for name in names:
            taken.setdefault(name, section.certificate)
