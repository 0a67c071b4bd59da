"""The end of content: what became of the message, and whether the client was there to hear it."""

from waypost.net.accepted import Accepted
from waypost.net.handler import Transaction
from waypost.net.parting import has_gone
from waypost.smtp.server import ServerEngine

_HEARD = 1.0  # seconds for a client that has closed to show that it cannot have heard the answer


async def conclude(engine: ServerEngine, stream: Accepted, transaction: Transaction) -> None:
    """The content is whole: sees the transaction through, answers, and tells it whether that was heard."""
    stream.on_end = transaction.left
    if stream.has_ended:
        transaction.left()
    try:
        answers = await transaction.finish()
    finally:
        stream.on_end = None
    engine.conclude(answers)
    lost = stream.lost
    if stream.has_ended and not lost:
        stream.write(engine.take_output())
        lost = await has_gone(stream, _HEARD)
    transaction.told(answers, lost=lost)
