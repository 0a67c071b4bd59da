"""Messages, plans and lanes for the tests of the spool."""

from waypost.delivery.spool import Delivery, Planned, Spool
from waypost.mail.content import Content, MemoryContent
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.smtp.address import NULL, Address
from waypost.smtp.parameters import MailParameters, RcptParameters

RECEIVED_AT = 1_000_000_000.0
NOW = RECEIVED_AT + 100
EXPIRES_AT = RECEIVED_AT + 432_000

ANN = Recipient(Address("ann", "example.com"))
BOB = Recipient(
    Address('"b o@b"', "[IPv6:2001:db8::1]"), RcptParameters(("SUCCESS", "DELAY"), "rfc822;bob+2B@example.com")
)
EVE = Recipient(Address("ève", "exämple.com"), RcptParameters(("NEVER",)))

NEW, ARCHIVE, APPS = "copy:new", "copy:archive", "primary:apps"


def make_message(
    id_: str = "m1", content: bytes | Content = b"Subject: x\r\n\r\nHello\r\n", **changes: object
) -> Message:
    """A message to Ann, Bob and Eve, or as `changes` says: parts of the envelope, `received_at`, or `digest`."""
    client = Client("relay", "2001:db8::25", 40000, "mail.example.com\t'\"", "ESMTPSA", "nextcloud", "TLSv1.3 X", True)
    envelope = Envelope(
        changes.pop("reverse_path", NULL),
        changes.pop("recipients", (ANN, BOB, EVE)),
        changes.pop("parameters", MailParameters(123, "8BITMIME", True, "HDRS", "envid+2B", "<>")),
    )
    received_at = changes.pop("received_at", RECEIVED_AT)
    digest = changes.pop("digest", b"")
    assert not changes
    kept = MemoryContent(content) if isinstance(content, bytes) else content
    return Message(id_, received_at, client, envelope, kept, digest)


def plan(lane: str, **changes: object) -> Planned:
    """One delivery, to all recipients or as `changes` says."""
    return Planned(lane, f"route of {lane}", EXPIRES_AT, **changes)


def plans(*lanes: str) -> list[Planned]:
    """One delivery for each lane."""
    return [plan(lane) for lane in lanes]


async def queue(spool: Spool, message: Message | str, *lanes: str) -> None:
    """Prepares and commits; a text is the id of a message."""
    message = make_message(message) if isinstance(message, str) else message
    await spool.prepare(message, plans(*lanes))
    spool.commit(message.id)


async def claim_one(spool: Spool, lane: str, now: float = NOW) -> Delivery:
    """The only delivery that is due in the lane."""
    (delivery,) = await spool.claim(lane, now, 10)
    return delivery


async def claim_ids(spool: Spool, lane: str, now: float = NOW) -> list[str]:
    """The messages of all deliveries that are due in the lane, which are claimed."""
    ids = []
    while claimed := await spool.claim(lane, now, 50):
        for delivery in claimed:
            ids.append(delivery.message.id)
            delivery.message.content.close()
    return sorted(ids)


def octets(content: Content) -> bytes:
    """All of the content, with the parts of the port that say something about it checked against it."""
    data = b"".join(content.chunks())
    assert content.size == len(data)
    assert content.is_ascii == data.isascii()
    assert content.ends_line == (not data or data.endswith(b"\r\n"))
    assert content.head(100) == data[:100]
    middle = len(data) // 2
    assert b"".join(content.chunks(middle)) == data[middle:]
    return data
