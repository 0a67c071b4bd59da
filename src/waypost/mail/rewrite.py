"""Another sender for a message, and fields that are added or removed: what a route or an upstream asks for.

Nothing is rewritten unless it is configured. It touches the header section alone, one field as a whole with its folded
lines, and every other octet stays as it came:

* The From field gets the new address and keeps the display name: a phrase as it was written, quoted strings and
  encoded words included; for the old style `bob@example.com (Bob)` the comment; for a group its name. When every
  author gets the same address the result has one author, the first with a name; otherwise all of them stay.
* The old value of From moves to Reply-To, folds and all, unless the message has a Reply-To, the value names no
  address to reply to, or it is not wanted.
* Further From fields, which RFC 5322 section 3.6 does not allow, are dropped: each would still carry the address
  that the upstream refuses.
* Sender follows From unless it has an address of its own; where it would repeat From it is left out.
* A message without a From field, without a header, or with the right address already keeps what it has.

The null reverse-path stays null: a report must never get an address to which reports are sent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from waypost.mail.address_map import NO_CHANGE, AddressMap, agree
from waypost.mail.authors import Author, display_name, read_authors
from waypost.mail.content import Content
from waypost.mail.edit import Edit, below_trace, edited
from waypost.mail.header import ANY_OCTET, Field, Header, read_header
from waypost.smtp.address import Address, AddressError, parse_mailbox

ONLY_ONCE = frozenset(
    b"date from sender reply-to to cc bcc message-id in-reply-to references subject".split()  # RFC 5322 section 3.6
)
"""Fields that a message may have once: they are added only where they are missing."""

MOST_FROM = 10
"""From fields that are read: a message has one, and a hostile one a hundred thousand."""

_LOOKED_FOR = tuple(sorted(ONLY_ONCE))
_MAX_LINE = 998  # RFC 5322 section 2.1.1
_COMFORTABLE = 76
_BARE = re.compile(rb'[^\s<>,;:()"\[\]\\@]+@[^\s<>,;:()"\\@]+')


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What is rewritten.

    `envelope` is for the reverse-path, `author` for From. Names in `remove` are in small letters and may have a `*`;
    those are removed first. `add` has whole fields as they go on the wire, with their CRLF.
    """

    envelope: AddressMap = NO_CHANGE
    author: AddressMap = NO_CHANGE
    sender: AddressMap | None = None
    """For the Sender field; None: as `author`."""
    keep_reply_to: bool = True
    """Whether the old From becomes Reply-To when there is none."""
    add: tuple[bytes, ...] = ()
    remove: tuple[str, ...] = ()

    def reverse_path(self, old: Address) -> Address:
        """The reverse-path to send with. The null path stays null.

        Raises `ValueError` when the new one is no address: a login such as `apikey` must not become a sender.
        """
        new = self.envelope.of(old)
        if new is not old:
            _check(new)
        return new


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A message that has been rewritten, with its header before and after it.

    `authors` has the new authors' addresses in small letters, each with the one that it took the place of, or None
    when that does not matter, because all would have become this one. It is empty when From stays.
    """

    content: Content
    before: Header
    after: Header
    authors: Mapping[str, Address | None] = field(default_factory=dict)


def rewritten(content: Content, rewrite: Rewrite) -> Rewritten | None:
    """`content` as `rewrite` wants it; None when nothing in it changes.

    Raises `ValueError` when an address to put in is none.
    """
    header = read_header(content)
    edits: list[Edit] = []
    if rewrite.remove:
        edits += [Edit(each.start, each.end, b"") for each in header.matching(_removed(rewrite.remove))]
    gone = {edit.start for edit in edits}
    left = [each for each in header.named(*_LOOKED_FOR) if each.start not in gone]
    chosen: dict[str, Address | None] = {}
    author_edits, authors = _author_edits(header, left, rewrite, chosen)
    edits += author_edits
    place = below_trace(header)
    sender_edits, more = _sender_edits(header, left, rewrite, authors)
    edits += sender_edits
    if place is not None:
        have = {each.name.lower() for each in left}
        if author_edits and author_edits[0].new.find(b"\r\nReply-To:") >= 0:
            have.add(b"reply-to")
        more += b"".join(line for line in rewrite.add if _may_be_added(line, have))
        if more:
            edits.append(Edit(place, place, more))
    if not edits:
        return None
    result = edited(content, header, edits)
    return Rewritten(result, header, read_header(result), chosen)


def author_of(header: Header) -> Address | None:
    """The only author of a message with one From field, or the first of several in it; None when it is no address."""
    addresses = authors_of(header) if header.count(b"from") == 1 else []
    return addresses[0] if addresses else None


def authors_of(header: Header) -> list[Address | None]:
    """The addresses in the From fields, None for what is no address."""
    return [
        _address(author.address)
        for each in islice(header.named(b"from"), MOST_FROM)
        for author in read_authors(_cleaned(header.head[each.value : each.end]))
        if author.address
    ]


def is_aligned(reverse_path: Address, header: Header) -> bool:
    """Whether reverse-path and From agree on the domain; the null path and a missing author agree with everything."""
    author = author_of(header)
    return author is None or reverse_path.is_null or agree(reverse_path.domain, author.domain)


def _check(address: Address) -> None:
    if not address.local or not address.domain:
        raise ValueError(f"{str(address)!r} is not a whole address and cannot replace one")


# -- From


def _author_edits(
    header: Header, fields: Sequence[Field], rewrite: Rewrite, chosen: dict[str, Address | None]
) -> tuple[list[Edit], list[bytes]]:
    """What happens to From, and the authors' addresses that the message has afterwards; `chosen` gets the new ones."""
    froms = [each for each in fields if each.name.lower() == b"from"]
    if not froms:
        return [], []
    values = [_cleaned(header.head[each.value : each.end]) for each in froms[:MOST_FROM]]
    authors = read_authors(values[0])
    addresses = [author.address for author in authors if author.address]
    fixed = rewrite.author.fixed
    if fixed is not None:
        _check(fixed)
        wanted = str(fixed).encode()
        if len(froms) == 1 and [author.address.lower() for author in authors] == [wanted.lower()]:
            return [], addresses
        new, addresses = _from_field(authors, wanted), [wanted]
        chosen[str(fixed).lower()] = None
    else:
        everybody = [author for value in values for author in read_authors(value)] if rewrite.author.pairs else []
        mapped = [_mapped(author, rewrite.author) for author in everybody]
        if all(author is old for author, old in zip(mapped, everybody, strict=True)):
            return [], addresses
        for author, old in zip(mapped, everybody, strict=True):
            if author is not old:
                chosen[author.address.decode().lower()] = _address(old.address)
        named = [author for author in mapped if author.address]
        new, addresses = _from_fields(named), [author.address for author in named]
    has_reply_to = any(each.name.lower() == b"reply-to" for each in fields)
    if rewrite.keep_reply_to and not has_reply_to and any(b"@" in author.address for author in authors):
        new += _reply_to_field(values[0])
    return [
        Edit(froms[0].start, froms[0].end, new),
        *(Edit(each.start, each.end, b"") for each in froms[1:]),
    ], addresses


def _mapped(author: Author, addresses: AddressMap) -> Author:
    """The author with another address; the same object when it stays."""
    old = _address(author.address)
    if old is None:
        return author
    new = addresses.of(old)
    if new is old:
        return author
    _check(new)
    return Author(author.name, str(new).encode())


def _address(text: bytes) -> Address | None:
    try:
        return parse_mailbox(text.decode())
    except (UnicodeDecodeError, AddressError):
        return None


def _cleaned(value: bytes) -> bytes:
    """A field's value with its folds, but without any CR or LF that is no fold, and without the last CRLF."""
    lines = value.removesuffix(b"\r\n").split(b"\r\n")
    return b"\r\n".join(line.replace(b"\r", b" ").replace(b"\n", b" ") for line in lines)


def _from_field(authors: Sequence[Author], address: bytes, name_of_field: bytes = b"From") -> bytes:
    named = next((author for author in authors if author.name), None)
    return b"%b:%b\r\n" % (name_of_field, _mailbox(named, address, len(name_of_field) + 2))


def _from_fields(authors: Sequence[Author]) -> bytes:
    """A From field with all of these, each on a line of its own behind the first."""
    boxes: dict[bytes, bytes] = {}
    for author in authors:
        if _address(author.address) is not None or _BARE.fullmatch(author.address):
            boxes.setdefault(author.address.lower(), _mailbox(author, author.address, len(b"From: ")))
    first, *others = boxes.values()
    return b"From:%b%b\r\n" % (first, b"".join(b",\r\n " + box.lstrip(b" \r\n") for box in others))


def _mailbox(named: Author | None, address: bytes, column: int) -> bytes:
    """Name and address, with the space before them; they begin in `column` unless that makes a line too long."""
    name = b"" if named is None else display_name(named)
    if named is None or not name:
        return b" " + address
    if named.is_comment:
        return b" %b%b%b" % (address, _gap(column + len(address), name), name)
    # The old field may have had no space behind its colon, and a line of just the length that is allowed.
    start = b"\r\n " if column + len(name.partition(b"\r\n")[0]) > _MAX_LINE else b" "
    first_line = column if start == b" " and b"\r\n" not in name else 1
    last_line = first_line + len(name.rpartition(b"\r\n")[2])
    return b"%b%b%b<%b>" % (start, name, _gap(last_line, b"<%b>" % address), address)


def _gap(length: int, following: bytes) -> bytes:
    """The space before `following` on a line that has `length` octets, a fold when it would get too long."""
    return b" " if length + len(following) < _COMFORTABLE else b"\r\n "


def _reply_to_field(value: bytes) -> bytes:
    first_line = value.partition(b"\r\n")[0]
    space = b"" if value.startswith((b" ", b"\t", b"\r")) else b" "
    if len(b"Reply-To:") + len(space) + len(first_line) > _MAX_LINE and first_line.strip():
        # The name of this field is longer than the one that the line was measured for.
        return b"Reply-To:\r\n %b\r\n" % value.lstrip(b" \t")
    return b"Reply-To:%b%b\r\n" % (space, value)


# -- Sender, and other fields


def _sender_edits(
    header: Header, fields: Sequence[Field], rewrite: Rewrite, authors: Sequence[bytes]
) -> tuple[list[Edit], bytes]:
    """What happens to Sender where it is, and the field to add where it is not."""
    addresses = rewrite.author if rewrite.sender is None else rewrite.sender
    senders = [each for each in fields if each.name.lower() == b"sender"]
    fixed = addresses.fixed
    if not senders:
        if rewrite.sender is None or fixed is None or _repeats(str(fixed).encode(), authors):
            return [], b""
        return [], b"Sender: %b\r\n" % str(fixed).encode()
    if not addresses.pairs:
        return [], b""
    known = read_authors(_cleaned(header.head[senders[0].value : senders[0].end]))
    old = next((author for author in known if author.address), Author(b"", b""))
    new = str(fixed).encode() if fixed is not None else _mapped(old, addresses).address
    if new == old.address and len(senders) == 1:
        return [], b""
    line = b"" if _repeats(new, authors) or not new else _from_field([old], new, b"Sender")
    first, *others = senders
    return [Edit(first.start, first.end, line), *(Edit(each.start, each.end, b"") for each in others)], b""


def _repeats(address: bytes, authors: Sequence[bytes]) -> bool:
    """Whether a Sender would only say what From says (RFC 5322 section 3.6.2)."""
    return [author.lower() for author in authors] == [address.lower()]


def _may_be_added(line: bytes, have: set[bytes]) -> bool:
    name = line.partition(b":")[0].lower()
    if name not in ONLY_ONCE:
        return True
    missing = name not in have
    have.add(name)
    return missing


@lru_cache(maxsize=64)
def _removed(names: tuple[str, ...]) -> bytes:
    """The pattern of the names of fields that are removed."""
    return b"|".join(map(_glob, names))


def _glob(name: str) -> bytes:
    """A pattern that never goes back over what a star has matched, for names may be as long as a header."""
    first, *rest = (re.escape(part.encode("ascii")) for part in re.split(r"\*+", name))
    if not rest:
        return first
    *middle, last = rest
    return first + b"".join(b"(?>%b*?%b)" % (ANY_OCTET, part) for part in middle) + b"%b*%b" % (ANY_OCTET, last)
