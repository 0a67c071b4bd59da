"""What `waypost explain` says of rewriting: what becomes of the reverse-path, and what of the header. Pure."""

from typing import Any

from waypost.mail.address_map import AddressMap
from waypost.mail.header import unfolded
from waypost.mail.rewrite import Rewrite
from waypost.smtp.address import Address


def described(rewrite: Rewrite | None, reverse_path: Address) -> dict[str, Any] | None:
    """The rewriting of a route or an upstream as JSON shows it, for mail with this reverse-path."""
    if rewrite is None:
        return None
    return {
        "reverse_path": str(rewrite.reverse_path(reverse_path)),
        "from": _pairs(rewrite.author),
        "sender": None if rewrite.sender is None else _pairs(rewrite.sender),
        "reply_to": "original" if rewrite.keep_reply_to else "none",
        "add": dict(_added(line) for line in rewrite.add),
        "remove": list(rewrite.remove),
    }


def sentence(rewriting: dict[str, Any]) -> str:
    """The same for people."""
    parts = [f"reverse-path <{rewriting['reverse_path']}>"]
    for name, key in (("From", "from"), ("Sender", "sender")):
        if rewriting[key]:
            parts.append(f"{name}: {', '.join(f'{old} becomes {new}' for old, new in rewriting[key].items())}")
    if rewriting["from"] and rewriting["reply_to"] == "none":
        parts.append("the original From is dropped")
    for words, key in (("adds", "add"), ("removes", "remove")):
        if rewriting[key]:
            parts.append(f"{words} {', '.join(rewriting[key])}")
    return f"rewritten: {'; '.join(parts)}"


def _added(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("ascii"), unfolded(value).decode("ascii")


def _pairs(addresses: AddressMap) -> dict[str, str]:
    return {pattern: str(new) for pattern, new in addresses.pairs}
