"""Readable, unique names for what the old formats left nameless."""

import re

_MAX = 80


class Namer:
    """Gives each name once. What is taken gets the next suggestion, and at last a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, *suggestions: str) -> str:
        """The first of `suggestions` that is free, made of the characters that names may have."""
        for suggestion in suggestions:
            text = _cleaned(suggestion)
            if text and text not in self._taken:
                break
        else:
            base = _cleaned(suggestions[-1]) or "unnamed"
            number = 2
            while f"{base}-{number}" in self._taken:
                number += 1
            text = f"{base}-{number}"
        self._taken.add(text)
        return text


def _cleaned(text: str) -> str:
    return re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9_.@+\-]", "-", text)).strip("-.@+")[:_MAX]


def host_of(address: str) -> str:
    """The host in `host:port`, good enough to name something after it."""
    host = address.rpartition(":")[0].strip("[]") or address
    return f"ipv6-{host}" if ":" in host else host
