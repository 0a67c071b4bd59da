"""Whose certificate a client shows: by its fingerprint, an e-mail address in it, or its subject.

Only certificates that a trusted authority has signed come here; this says which account they stand for.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from waypost.net.certificates import fingerprint
from waypost.routing.route import Account

_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ATTRIBUTE = re.compile(r"\s*([A-Za-z]+)\s*=\s*((?:[^,\\]|\\.)+)\s*(?:,|$)")
_LONG_NAMES = {
    "CN": "commonName",
    "O": "organizationName",
    "OU": "organizationalUnitName",
    "C": "countryName",
    "L": "localityName",
    "ST": "stateOrProvinceName",
    "DC": "domainComponent",
    "UID": "userId",
    "SERIALNUMBER": "serialNumber",
    "EMAILADDRESS": "emailAddress",
}

Subject = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """A certificate that a client has shown and TLS has verified: its DER form and its names."""

    fingerprint: str
    emails: frozenset[str]
    subject: Subject


def shown(der: bytes, names: Mapping[str, Any]) -> ShownCertificate:
    """From what `ssl` tells of the other side's certificate: `getpeercert(True)` and `getpeercert()`."""
    alternative = names.get("subjectAltName", ())
    subject = frozenset((key, value) for group in names.get("subject", ()) for key, value in group)
    emails = frozenset(_folded(value) for kind, value in alternative if kind == "email")
    return ShownCertificate(fingerprint(der), emails, subject)


def certificate_name(text: str) -> str:
    """How an account may name a certificate, in one form. Raises `ValueError`.

    A SHA-256 fingerprint (64 hexadecimal digits, colons allowed), an e-mail address, or attributes of the subject
    with commas between, as in `CN=printer,O=Example`.
    """
    plain = text.replace(":", "").lower()
    if _FINGERPRINT.fullmatch(plain):
        return plain
    if "=" in text:
        return ",".join(f"{name}={_escaped(value)}" for name, value in sorted(_subject(text)))
    if "@" in text.strip("@") and not any(character.isspace() for character in text):
        return _folded(text)
    raise ValueError("is neither a SHA-256 fingerprint, nor a mail address, nor a subject")


class Certificates:
    """The accounts that name certificates."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._fingerprints: dict[str, list[Account]] = {}
        self._emails: dict[str, list[Account]] = {}
        self._subjects: list[tuple[Subject, Account]] = []
        self._names = {name: account for name, account in accounts.items() if account.certificates}
        for account in accounts.values():
            for name in account.certificates:
                if _FINGERPRINT.fullmatch(name):
                    self._fingerprints.setdefault(name, []).append(account)
                elif "=" in name:
                    self._subjects.append((_subject(name), account))
                else:
                    self._emails.setdefault(name, []).append(account)

    def __bool__(self) -> bool:
        return bool(self._fingerprints or self._emails or self._subjects)

    def named(self, name: str) -> Account | None:
        """The account of this name, if it has certificates."""
        return self._names.get(name)

    def find(self, certificate: ShownCertificate) -> Account | None:
        """The account: by fingerprint, else e-mail address, else subject. None when it would be several."""
        ways: tuple[Iterable[Account], ...] = (
            self._fingerprints.get(certificate.fingerprint, ()),
            [account for email in certificate.emails for account in self._emails.get(email, ())],
            [account for subject, account in self._subjects if subject <= certificate.subject],
        )
        for found in ways:
            names = {account.name: account for account in found}
            if names:
                return next(iter(names.values())) if len(names) == 1 else None
        return None


def _subject(text: str) -> Subject:
    found = set()
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            raise ValueError("is no subject: write attributes with commas between, like CN=printer,O=Example")
        short = match[1]
        long = _LONG_NAMES.get(short.upper(), short)
        if long not in _LONG_NAMES.values():
            raise ValueError(f"{short} is no attribute that is known here: use {', '.join(_LONG_NAMES)}")
        found.add((long, re.sub(r"\\(.)", r"\1", match[2]).strip()))
        at = match.end()
    return frozenset(found)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _folded(email: str) -> str:
    """The domain in lower case: it means the same (RFC 5280 section 7.5)."""
    local, at, domain = email.rpartition("@")
    return f"{local}{at}{domain.lower()}"
