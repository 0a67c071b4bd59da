"""DKIM signatures (RFC 6376): which fields one covers, whether it still fits, and making one.

Verifying is for those who receive. What is asked of other people's signatures here is only whether a change to the
header breaks them. Keys are in `waypost.mail.dkim_key`.
"""

import base64
import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from waypost.mail.dkim_canonical import Canonical, canonical_field
from waypost.mail.header import Field, Header, unfolded

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

DEFAULT_HEADERS = (
    "From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-ID", "Content-Description",
    "List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post",
    "List-Owner", "List-Archive",
)  # fmt: skip
"""What is signed where it is present: RFC 6376 section 5.4.1, and what RFC 8058 asks for."""

OVERSIGNED = frozenset({"from", "to", "subject"})
"""Fields that are signed once more than they are there, so that nobody adds one that readers would see."""

_WIDTH = 74
_MOST = 20  # signatures that are looked at, each with the whole header: more are there to make work
_MOST_NAMES = 6000  # that one of them may cover, for the same reason; those that we make have fewer


@dataclass(frozen=True, slots=True)
class Key:
    """One key that signs for a domain. `sign` makes the signature of what is hashed; it must not block for long."""

    domain: str
    selector: str
    algorithm: Algorithm
    sign: Callable[[bytes], bytes]
    headers: tuple[str, ...] = DEFAULT_HEADERS
    header_form: Canonical = "relaxed"
    body_form: Canonical = "relaxed"
    subdomains: bool = False
    """Whether it also signs for authors in the domains below."""

    def signs_for(self, domain: str) -> bool:
        """Whether this is the key for authors in `domain`, which is in small letters without a dot at its end."""
        return domain == self.domain or (self.subdomains and domain.endswith(f".{self.domain}"))


class Signature(NamedTuple):
    """An existing DKIM-Signature field. `names` are those of the fields that it covers, in small letters."""

    field: Field
    domain: str
    selector: str
    names: tuple[bytes, ...]
    form: Canonical


def signatures(header: Header) -> list[Signature]:
    """The first twenty DKIM signatures of a message, as far as they can be read; none of more than 6,000 names."""
    found: list[Signature] = []
    for field in header.named(b"dkim-signature"):
        tags = _tags(unfolded(header.head[field.value : field.end]))
        if b"h" in tags and b"d" in tags and tags[b"h"].count(b":") < _MOST_NAMES:
            names = tuple(name.strip(b" \t").lower() for name in tags[b"h"].split(b":"))
            form: Canonical = "relaxed" if tags.get(b"c", b"").startswith(b"relaxed") else "simple"
            domain, selector = (_shown(tags.get(tag, b"")) for tag in (b"d", b"s"))
            found.append(Signature(field, domain, selector, names, form))
            if len(found) == _MOST:
                break
    return found


def _tags(value: bytes) -> dict[bytes, bytes]:
    """The tags of a signature (RFC 6376 section 3.2). No pattern, which a field of a MiB would make try each octet."""
    pairs = (tag.partition(b"=") for tag in value.split(b";"))
    return {name.strip(b" \t"): text.strip(b" \t") for name, _, text in pairs}


def broken_signatures(before: Header, after: Header) -> list[Signature]:
    """The signatures of `after` that covered `before` and do not any more; their fields are those in `after`."""
    kept = signatures(after)
    if not kept:
        return []
    wanted = {name for signature in kept for name in signature.names}
    old, new = _by_name(before, wanted), _by_name(after, wanted)
    return [
        signature
        for signature in kept
        if _covered(old, signature.names, signature.form) != _covered(new, signature.names, signature.form)
    ]


def covered(header: Header, names: Sequence[bytes], form: Canonical) -> list[bytes]:
    """The fields that a list of names stands for, in canonical form.

    A name that is there again stands for the next field of that name, from the last in the message up; one that is
    there too often stands for nothing (RFC 6376 section 5.4.2).
    """
    return _covered(_by_name(header, set(names)), names, form)


def _by_name(header: Header, wanted: Container[bytes]) -> dict[bytes, list[bytes]]:
    """The fields with these names, by their names in small letters."""
    found: dict[bytes, list[bytes]] = {}
    for text, written in header.texts():
        name = written.lower()
        if name in wanted:
            found.setdefault(name, []).append(text)
    return found


def _covered(by_name: Mapping[bytes, Sequence[bytes]], names: Sequence[bytes], form: Canonical) -> list[bytes]:
    taken: dict[bytes, int] = {}
    found = []
    for name in names:
        count = taken[name] = taken.get(name, 0) + 1
        fields = by_name.get(name, ())
        if count <= len(fields):
            found.append(canonical_field(fields[-count], form))
    return found


def body_start(header: Header) -> int | None:
    """Where the body begins; None when the header is not one from its first octet to its last, and so not signed.

    Such a message would be divided into header and body in other ways by others.
    """
    end = header.fields_end
    if not header.complete or end == 0 or end != header.end:
        return None
    return end + 2 if header.head.startswith(b"\r\n", end) else end


def signature_field(header: Header, key: Key, body_hash: bytes, now: int) -> bytes:
    """The DKIM-Signature field of a message, with its CRLF. `now` is in seconds since the epoch."""
    names = signed_names(header, key.headers)
    hashed = covered(header, [name.lower().encode() for name in names], key.header_form)
    tags = [
        "v=1",
        f"a={key.algorithm}",
        f"c={key.header_form}/{key.body_form}",
        f"d={key.domain}",
        f"s={key.selector}",
        f"t={now}",
    ]
    unsigned = (_folded("DKIM-Signature: ", tags) + _listed("h=", names) + _listed64("bh=", body_hash)).encode()
    unsigned += b";\r\n b="
    hashed.append(canonical_field(unsigned, key.header_form).removesuffix(b"\r\n"))
    return unsigned + "\r\n ".join(_cut(_base64(key.sign(b"".join(hashed))))).encode() + b"\r\n"


def signed_names(header: Header, headers: Sequence[str]) -> list[str]:
    """The names for the tag h=: each as often as it is there, and some once more."""
    counts: dict[bytes, int] = {}
    for field in header.fields():
        name = field.name.lower()
        counts[name] = counts.get(name, 0) + 1
    return [
        name for name in headers for _ in range(counts.get(name.lower().encode(), 0) + (name.lower() in OVERSIGNED))
    ]


def to_be_signed(algorithm: Algorithm, data: bytes) -> bytes:
    """What the key's own operation is given: ed25519 signs the hash (RFC 8463 section 3), RSA hashes by itself."""
    return hashlib.sha256(data).digest() if algorithm == "ed25519-sha256" else data


def record(algorithm: Algorithm, public: bytes) -> str:
    """The text of the DNS record for a public key; `public` is what the record has in base64."""
    return f"v=DKIM1; k={algorithm.partition('-')[0]}; p={_base64(public)}"


# -- writing


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _cut(text: str) -> list[str]:
    return [text[at : at + _WIDTH - 2] for at in range(0, len(text), _WIDTH - 2)]


def _folded(start: str, tags: Sequence[str]) -> str:
    """Tags with semicolons between them, on as many lines as it takes."""
    lines = [start + tags[0]]
    for tag in tags[1:]:
        if len(lines[-1]) + len(tag) + 3 > _WIDTH:
            lines[-1] += ";"
            lines.append(f" {tag}")
        else:
            lines[-1] += f"; {tag}"
    return "\r\n".join(lines)


def _listed(start: str, names: Sequence[str]) -> str:
    lines = [f" {start}{names[0]}"]
    for name in names[1:]:
        if len(lines[-1]) + len(name) + 2 > _WIDTH:
            lines[-1] += ":"
            lines.append(f"  {name}")
        else:
            lines[-1] += f":{name}"
    return ";\r\n" + "\r\n".join(lines)


def _listed64(start: str, digest: bytes) -> str:
    return f";\r\n {start}{_base64(digest)}"


def _shown(value: bytes) -> str:
    """A domain or selector for people."""
    return "".join(chr(octet) if 32 < octet < 127 else "?" for octet in value[:255]).lower()
