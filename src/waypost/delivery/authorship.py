"""Whether an upstream may be given content for what its From field says: looked at only where `senders` is set."""

from itertools import islice

from waypost.mail.authors import read_authors
from waypost.mail.content import Content
from waypost.mail.header import read_header, unfolded
from waypost.mail.outcome import Cause, Failure, Phase
from waypost.mail.rewrite import MOST_FROM
from waypost.routing.identity import writes_for
from waypost.routing.route import Upstream
from waypost.smtp.address import Address


def foreign_author(upstream: Upstream, reverse_path: Address, content: Content) -> Failure | None:
    """Why the upstream does not take this content, or None: it sends for none of an author's domain.

    Notifications, whose reverse-path is null, may go everywhere. So may content without an author that can be read.
    Where the upstream rewrites From, what counts is the author that it will be told.
    """
    if not upstream.senders or reverse_path.is_null:
        return None
    header = read_header(content)
    for field in islice(header.named(b"from"), MOST_FROM):
        for author in read_authors(unfolded(header.head[field.value : field.end])):
            local, at, domain = author.address.decode("utf-8", "backslashreplace").rpartition("@")
            address = Address(local, domain.strip())
            if upstream.rewrite is not None:
                address = upstream.rewrite.author.of(address)
            if at and not writes_for(upstream, address.domain):
                words = f"{upstream.name} does not send for {address.domain}, the domain in the From field (`senders`)"
                return Failure(Phase.DATA, Cause.SENDER, words)
    return None
