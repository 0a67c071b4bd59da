"""What is put in front of content that comes in: trace fields, and on submission those that are missing."""

from waypost.delivery.desk import Desk
from waypost.mail.content import Content, JoinedContent
from waypost.mail.header import read_header
from waypost.mail.message import Client, Envelope
from waypost.mail.trace import loops, missing_fields, received_field
from waypost.smtp.reply import Reply


def traced_content(
    desk: Desk, client: Client, message_id: str, envelope: Envelope, content: Content
) -> Content | Reply:
    """The content with our fields in front, or the refusal of a message that goes in circles."""
    settings = desk.settings
    header = read_header(content)
    looping = loops(header.head, settings.instance, settings.max_received)
    if looping is not None:
        return looping
    now = desk.clock.time()
    only = envelope.recipients[0].address if len(envelope.recipients) == 1 else None
    front = received_field(message_id, client, settings.hostname, now, only, settings.instance)
    if client.submission:
        front += missing_fields(header, settings.hostname, message_id, now)
    return JoinedContent(front, content)
