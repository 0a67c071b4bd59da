"""Writing down what became of the primary delivery of a message that was passed on, and wording it for the client."""

from waypost.delivery.desk import IntakeLog
from waypost.delivery.sending import Relayed
from waypost.delivery.told import Told, grouped, told_of
from waypost.mail.message import Message
from waypost.mail.outcome import Role, Status
from waypost.routing.route import Route


def tell(log: IntakeLog, message: Message, route: Route, relayed: Relayed) -> Told:
    """Writes down what became of the message, and says what the client is told. What is in doubt was told of before."""
    target = route.primary.name
    if relayed.fates:
        return _tell_of_each(log, message, target, relayed)
    recipients, answer = message.envelope.recipients, relayed.reply
    match relayed.status:
        case Status.RELAYED if relayed.attempt is not None:
            log.relayed(message, relayed.attempt, recipients)
        case Status.IN_DOUBT:
            pass
        case Status.FAILED:
            log.failed(message, target, recipients, answer, Role.PRIMARY)
        case _:
            log.deferred(message, target, recipients, answer, None, Role.PRIMARY)
    return Told(answer)


def _tell_of_each(log: IntakeLog, message: Message, target: str, relayed: Relayed) -> Told:
    for fate, recipients in grouped(relayed.fates):
        match fate.status:
            case Status.RELAYED if fate.attempt is not None:
                log.relayed(message, fate.attempt, recipients)
            case Status.FAILED:
                log.failed(message, target, recipients, fate.reply, Role.PRIMARY)
            case Status.DEFERRED:
                log.deferred(message, target, recipients, fate.reply, None, Role.PRIMARY)
    return told_of((fate.recipient, fate.reply) for fate in relayed.fates)
