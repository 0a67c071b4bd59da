"""Globs over addresses and names, compiled so that many of them cost little.

`*` stands for any characters, `?` for one; nothing else is special, and upper and lower case are the same. An
address pattern is matched as a whole, its local part and its domain apart, so that no quoted `@` in a local part
can pretend to be a domain:

    bob@example.com    one address            example.com, @example.com   every address in the domain
    *@example.com      the same               *.example.com               every address in a domain below it
    <>                 the null path          postmaster                  the recipient without a domain
    *                  everything

A set answers for all rules at once: bit *n* of its mask says whether the patterns of rule *n* match. Exact addresses,
whole domains and domains below one are found in dicts; only what is left is tried one by one.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

from waypost.smtp.address import Address

_Key = TypeVar("_Key")

_SUFFIX = re.compile(r"\*\.([^*?]+)")


class NamePatterns:
    """Globs over names, one sequence of them for each rule; an empty sequence matches everything."""

    __slots__ = ("_always", "_globs", "_names")

    def __init__(self, rules: Iterable[Sequence[str]]) -> None:
        self._always = 0
        self._names: dict[str, int] = {}
        self._globs: dict[re.Pattern[str], int] = {}
        for number, patterns in enumerate(rules):
            bit = 1 << number
            if not patterns:
                self._always |= bit
            for pattern in patterns:
                if _is_glob(pattern):
                    _add(self._globs, _compiled(pattern.lower()), bit)
                else:
                    _add(self._names, pattern.lower(), bit)

    def mask(self, name: str | None, wanted: int = -1) -> int:
        """The rules that `name` matches; of those that are not `wanted`, perhaps not all.

        `None` matches only those that ask for nothing.
        """
        if name is None:
            return self._always
        lower = name.lower()
        mask = self._always | self._names.get(lower, 0)
        for glob, bits in self._globs.items():
            if bits & wanted and glob.fullmatch(lower):
                mask |= bits
        return mask


class AddressPatterns:
    """Address patterns, one sequence of them for each rule; an empty sequence matches everything."""

    __slots__ = ("_addresses", "_always", "_domains", "_globs", "_null", "_suffixes")

    def __init__(self, rules: Iterable[Sequence[str]]) -> None:
        self._always = 0
        self._null = 0
        self._addresses: dict[tuple[str, str], int] = {}
        self._domains: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._globs: dict[tuple[re.Pattern[str], re.Pattern[str]], int] = {}
        for number, patterns in enumerate(rules):
            if not patterns:
                self._always |= 1 << number
            for pattern in patterns:
                self._add(pattern, 1 << number)

    def _add(self, pattern: str, bit: int) -> None:
        if pattern == "*":
            self._always |= bit
            return
        if pattern == "<>":
            self._null |= bit
            return
        local, domain = _split(pattern)
        below = _SUFFIX.fullmatch(domain)
        if not _is_glob(local) and not _is_glob(domain):
            _add(self._addresses, (local, domain), bit)
        elif local == "*" and not _is_glob(domain):
            _add(self._domains, domain, bit)
        elif local == "*" and below is not None:
            _add(self._suffixes, below[1], bit)
        else:
            _add(self._globs, (_compiled(local), _compiled(domain)), bit)

    def mask(self, address: Address, wanted: int = -1) -> int:
        """The rules whose patterns `address` matches; of those that are not `wanted`, perhaps not all."""
        if address.is_null:
            return self._always | self._null
        domain = address.domain.lower()
        if domain.endswith(".") or not domain.isascii():
            domain = domain_key(domain)
        mask = self._always | self._domains.get(domain, 0)
        if self._addresses or self._globs:
            local = address.local.lower()
            mask |= self._addresses.get((local, domain), 0)
            for (local_glob, domain_glob), bits in self._globs.items():
                if bits & wanted and domain_glob.fullmatch(domain) and local_glob.fullmatch(local):
                    mask |= bits
        if self._suffixes:
            at = domain.find(".")
            while at >= 0:
                mask |= self._suffixes.get(domain[at + 1 :], 0)
                at = domain.find(".", at + 1)
        return mask


def _add(bits: dict[_Key, int], key: _Key, bit: int) -> None:
    bits[key] = bits.get(key, 0) | bit


def _split(pattern: str) -> tuple[str, str]:
    """Local part and domain of a pattern, in small letters."""
    local, at, domain = pattern.lower().rpartition("@")
    if not at and domain == "postmaster":
        return domain, ""
    return local or "*", domain_key(domain)


@lru_cache(maxsize=1024)
def domain_key(domain: str) -> str:
    """The form in which domains are compared: no dot at the end, other scripts as A-labels (RFC 5890)."""
    return ".".join(map(_a_label, domain.lower().removesuffix(".").split(".")))


def _a_label(label: str) -> str:
    if label.isascii() or _is_glob(label):
        return label
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        return label  # no host name, but comparable all the same


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression that never goes back over what a star has matched: linear in the text's length."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + f".*{last}", re.DOTALL)
