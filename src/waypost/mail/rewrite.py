"""Another sender for a message: envelope and From field, for upstreams that take only their own address.

Only an upstream with `rewrite_from` asks for this. It touches the header section alone, one field as a whole with
its folded lines, and every other octet stays as it came:

* The From field gets the new address and keeps the display name: a phrase as it was written, quoted strings and
  encoded words included; for the old style `bob@example.com (Bob)` the comment; for a group its name. Of several
  mailboxes the first with a name gives it, because the result has one author.
* The old value of From moves to Reply-To, folds and all, unless the message has a Reply-To or the value names no
  address to reply to.
* Further From fields, which RFC 5322 section 3.6 does not allow, are dropped: each would still carry the address
  that the upstream refuses.
* A message without a From field, without a header, or with the right address already is left alone.

The null reverse-path stays null: a report must never get an address to which reports are sent.
"""

from collections.abc import Sequence
from itertools import pairwise

from waypost.mail.authors import Author, display_name, read_authors
from waypost.mail.content import Content, JoinedContent
from waypost.mail.header import Field, Header, read_header
from waypost.smtp.address import Address

_MAX_LINE = 998  # RFC 5322 section 2.1.1
_COMFORTABLE = 76


def rewritten_reverse_path(reverse_path: Address, new: Address) -> Address:
    """The reverse-path for an upstream that wants `new`. The null path stays null.

    Raises `ValueError` when `new` is no address: a login such as `apikey` must not become a sender.
    """
    _check(new)
    return reverse_path if reverse_path.is_null else new


def rewritten_content(content: Content, address: Address) -> Content:
    """`content` as a message from `address`; the same object when there is nothing to rewrite.

    Raises `ValueError` when `address` is no address.
    """
    _check(address)
    header = read_header(content)
    froms: list[Field] = []
    has_reply_to = False
    for field in header.fields():
        name = field.name.lower()
        if name == b"from":
            froms.append(field)
        elif name == b"reply-to":
            has_reply_to = True
    if not froms:
        return content
    old = _cleaned(header.head[froms[0].value : froms[0].end])
    authors = read_authors(old)
    wanted = str(address).encode()
    if len(froms) == 1 and [author.address.lower() for author in authors] == [wanted.lower()]:
        return content
    new = _from_field(authors, wanted)
    if not has_reply_to and any(b"@" in author.address for author in authors):
        new += _reply_to_field(old)
    return _replaced(content, header, froms, new)


def _check(address: Address) -> None:
    if not address.local or not address.domain:
        raise ValueError(f"{str(address)!r} is not a whole address and cannot replace one")


def _replaced(content: Content, header: Header, froms: Sequence[Field], new: bytes) -> Content:
    front = [header.head[: froms[0].start], new]
    for field, following in pairwise(froms):
        front.append(header.head[field.end : following.start])
    return JoinedContent(b"".join(front), content, froms[-1].end)


def _cleaned(value: bytes) -> bytes:
    """A field's value with its folds, but without any CR or LF that is no fold, and without the last CRLF."""
    lines = value.removesuffix(b"\r\n").split(b"\r\n")
    return b"\r\n".join(line.replace(b"\r", b" ").replace(b"\n", b" ") for line in lines)


def _from_field(authors: Sequence[Author], address: bytes) -> bytes:
    named = next((author for author in authors if author.name), None)
    name = b"" if named is None else display_name(named)
    if named is None or not name:
        return b"From: %b\r\n" % address
    if named.is_comment:
        return b"From: %b%b%b\r\n" % (address, _gap(len(b"From: ") + len(address), name), name)
    # The old field may have had no space behind its colon, and a line of just the length that is allowed.
    start = b"From:\r\n " if len(b"From: ") + len(name.partition(b"\r\n")[0]) > _MAX_LINE else b"From: "
    last_line = len((start + name).rpartition(b"\r\n")[2])
    return b"%b%b%b<%b>\r\n" % (start, name, _gap(last_line, b"<%b>" % address), address)


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
