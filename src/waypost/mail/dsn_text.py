"""The part of a notification that people read: what happened to whom, in whose words, and what to do.

It names our own host and nobody else's: upstreams are internal, and mean nothing to authors.
"""

from textwrap import wrap

from waypost.mail.dsn_status import status_code
from waypost.mail.notification import Action, Lacking, Notification, lacking
from waypost.mail.outcome import Cause, Failure, RecipientOutcome, Status
from waypost.mail.trace import date_time
from waypost.smtp.reply import EnhancedCode, Reply, printable

_WIDTH = 72
_CAUSES: dict[Cause, str] = {
    Cause.UNREACHABLE: "The next mail server could not be reached.",
    Cause.TIMEOUT: "The next mail server did not answer in time.",
    Cause.CLOSED: "The connection to the next mail server was lost.",
    Cause.PROTOCOL: "The next mail server gave an answer that makes no sense.",
    Cause.TLS: "There was no secure connection to the next mail server.",
    Cause.CERTIFICATE: "The next mail server could not prove who it is.",
    Cause.PLAINTEXT: "There was no secure connection to the next mail server.",
    Cause.LOGIN: "This mail system could not log in at the next mail server.",
    Cause.BUSY: "There was no free connection to the next mail server.",
    Cause.QUOTA: "This mail system had sent all that it may send by way of the next mail server for now.",
    Cause.SENDER: "No mail server on the way sends mail for your address.",
    Cause.PAUSED: "The next mail server was taken out of use for a while.",
    Cause.SHUTDOWN: "This mail system was being stopped.",
    Cause.LOCAL: "There was a fault in this mail system.",
}
_LACKING: dict[Lacking, str] = {
    Lacking.SMTPUTF8: "No mail server on the way takes addresses with letters beyond ASCII.",
    Lacking.SIZE: "The message is larger than any mail server on the way takes.",
    Lacking.EIGHTBIT: "No mail server on the way takes messages with 8-bit characters.",
}
_ASK = "If that does not help, ask your administrator and show them this message."
_AGAIN = "Send it again later, or reach the recipient in another way."
_SMALLER = "Send less at once, or share large files in another way."
_ADVICE: dict[tuple[int, int], str] = {
    (2, 2): "The recipient's mailbox is full: try again later, or reach the recipient in another way.",
    (2, 3): _SMALLER,
    (3, 4): _SMALLER,
    (1, 7): "It is your own address that was not accepted: check it in your program's settings.",
    (1, 8): "It is your own address that was not accepted: check it in your program's settings.",
}
_ADVICE_BY_SUBJECT: dict[int, str] = {
    1: "Check the address for mistakes, and send your message again if you find one.",
    7: "It was refused by a rule of the receiving side; its answer may say which.",
}


def text_for_people(notification: Notification, attached: str) -> str:
    """The text, with CRLF line ends. `attached` is a sentence about the original."""
    message = notification.message
    paragraphs = [
        f"This is the mail system at {notification.hostname}.",
        _opening(notification, date_time(int(message.received_at))),
    ]
    lines = [line for paragraph in paragraphs for line in (*_wrapped(paragraph), "")]
    for outcome in notification.outcomes:
        lines.append(f"<{printable(str(outcome.recipient.address))}>")
        for sentence in _happened(notification, outcome):
            lines += _wrapped(sentence, "    ")
        lines.append("")
    for paragraph in (_advice(notification), attached):
        if paragraph:
            lines += (*_wrapped(paragraph), "")
    return "\r\n".join(lines)


def _opening(notification: Notification, date: str) -> str:
    many = len(notification.outcomes) > 1
    whom = "these recipients" if many else "this recipient"
    match notification.action:
        case Action.FAILED:
            return f"Your message of {date} could not be delivered to {whom}. It will not be tried again."
        case Action.DELAYED:
            return f"Your message of {date} has not been delivered to {whom} yet. It is still being tried."
        case Action.RELAYED:
            return (
                f"Your message of {date} was handed on for {whom}, to a mail server that does not confirm "
                "deliveries. You will hear of it again only if it cannot be delivered there."
            )


def _happened(notification: Notification, outcome: RecipientOutcome) -> list[str]:
    if notification.action is Action.RELAYED:
        return []
    sentences = ["It was tried until its time was over."] if notification.expired(outcome) else []
    answer = outcome.answer
    if outcome.status is Status.IN_DOUBT:
        return [*sentences, "The next mail server was given the message and did not say whether it took it."]
    if isinstance(answer, Failure):
        return [*sentences, _LACKING[lacking(answer)] if answer.cause is Cause.CAPABILITY else _CAUSES[answer.cause]]
    refused = notification.action is Action.FAILED and not sentences
    return [*sentences, "It was refused. The answer was:" if refused else "The last answer was:", str(answer)]


def _advice(notification: Notification) -> str:
    match notification.action:
        case Action.DELAYED:
            until = (
                "" if notification.until is None else f" It will be tried until {date_time(int(notification.until))}."
            )
            return f"You need not do anything, and should not send it again.{until}"
        case Action.RELAYED:
            return ""
    found = dict.fromkeys(_advice_for(notification, outcome) for outcome in notification.outcomes)
    return " ".join([*filter(None, found), _ASK])


def _advice_for(notification: Notification, outcome: RecipientOutcome) -> str:
    if outcome.status is Status.IN_DOUBT:
        return "Ask the recipient before you send it again: it may have arrived."
    code: EnhancedCode = status_code(notification, outcome)
    if code[1:] in _ADVICE:
        return _ADVICE[code[1:]]
    if notification.expired(outcome):
        return _AGAIN
    return _ADVICE_BY_SUBJECT.get(code[1], "") if isinstance(outcome.answer, Reply) else ""


def _wrapped(text: str, indent: str = "") -> list[str]:
    return wrap(
        printable(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
