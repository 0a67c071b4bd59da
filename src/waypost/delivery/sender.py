"""The port to upstreams, and how a transaction is worded for what one of them offers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from waypost.mail.content import Content
from waypost.mail.message import Client, Envelope, Recipient
from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.routing.route import Upstream
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.parameters import NO_MAIL_PARAMETERS, NO_RCPT_PARAMETERS, MailParameters, RcptParameters

Fit = Callable[[Extensions], tuple[c.Mail, Sequence[c.Rcpt]] | Failure]
"""Words a transaction for what an upstream offers, or says that it cannot carry it."""


class Lent(Protocol):
    """A connection for the time of one transaction."""

    @property
    def extensions(self) -> Extensions:
        """What the upstream offers."""

    @property
    def reused(self) -> bool:
        """Whether the connection had carried a transaction before."""

    @property
    def tls(self) -> str | None:
        """Version and cipher, or None."""

    @property
    def phases(self) -> tuple[tuple[Phase, float], ...]:
        """How many seconds each phase of the attempt took so far, in their order."""

    @property
    def is_closed(self) -> bool:
        """Whether the upstream has gone meanwhile."""

    async def add(self, recipients: Sequence[c.Rcpt]) -> Sequence[Answer]:
        """More recipients; the answer to each."""

    async def send(self, content: Content) -> tuple[Phase, Answer]:
        """The content; how far it came, and the answer."""

    def verdicts(self, answer: Answer) -> Sequence[Answer]:
        """What the content came to for each recipient that was accepted here, in their order.

        `answer` is what it came to as a whole. Nothing, when that is everybody's: the upstream gave one answer for all.
        """

    def release(self) -> None:
        """Gives the connection back, once. A transaction that is still open is reset."""


class Begun(Protocol):
    """A transaction whose MAIL was accepted."""

    @property
    def lent(self) -> Lent:
        """The connection that carries it."""

    @property
    def recipients(self) -> Sequence[Answer]:
        """The answer to each RCPT."""

    @property
    def dot(self) -> Answer | None:
        """The answer to the content, when it was sent along."""


class Sender(Protocol):
    """Opens transactions with upstreams."""

    async def begin(
        self, upstream: Upstream, fit: Fit, *, client: Client, background: bool, content: Content | None = None
    ) -> Begun | Stopped:
        """MAIL and RCPT, worded by `fit`. `background` allows the longer time-outs.

        `client` is who handed the message in, for upstreams that are told.

        `content` may be sent along, if the upstream allows it and it is small.
        """


def by_answer(
    recipients: Sequence[Recipient], answers: Sequence[Answer]
) -> Iterable[tuple[Answer, Sequence[Recipient]]]:
    """Those who were given the same answer together, in the order of the first of them."""
    groups: dict[Answer, list[Recipient]] = {}
    for recipient, answer in zip(recipients, answers, strict=True):
        groups.setdefault(answer, []).append(recipient)
    return groups.items()


_QUIET = RcptParameters(notify=("NEVER",))


def fit(
    envelope: Envelope, extensions: Extensions, *, quiet: bool = False, each: bool = False
) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
    """MAIL and RCPT for an upstream with these extensions, or why it cannot carry the message.

    What only informs (SIZE, DSN, AUTH=) is left out where it is not offered; what changes what may be sent
    (8BITMIME, SMTPUTF8) is not. `quiet` asks for no notification (RFC 3461 section 4.1), as copies do. `each` asks
    for an answer for each recipient, where that is offered (PRDR).
    """
    parameters = envelope.parameters
    failure = _lacking(envelope, parameters, extensions)
    if failure is not None:
        return failure
    if parameters is not NO_MAIL_PARAMETERS:
        parameters = replace(
            parameters,
            size=parameters.size if extensions.size is not None else None,
            body=parameters.body if extensions.eightbitmime else None,
            ret=parameters.ret if extensions.dsn else None,
            envid=parameters.envid if extensions.dsn else None,
            auth=parameters.auth if extensions.auth else None,
        )
    if each and extensions.prdr:
        parameters = replace(parameters, prdr=True)
    return c.Mail(envelope.reverse_path, parameters), fit_recipients(envelope.recipients, extensions, quiet=quiet)


def fit_recipients(recipients: Sequence[Recipient], extensions: Extensions, *, quiet: bool = False) -> Sequence[c.Rcpt]:
    """RCPT for each of these, with the parameters that are offered."""
    if not extensions.dsn:
        return [c.Rcpt(recipient.address, NO_RCPT_PARAMETERS) for recipient in recipients]
    if quiet:
        return [c.Rcpt(recipient.address, _QUIET) for recipient in recipients]
    return [c.Rcpt(recipient.address, recipient.parameters) for recipient in recipients]


def _lacking(envelope: Envelope, parameters: MailParameters, extensions: Extensions) -> Failure | None:
    lacks = ""
    if envelope.needs_smtputf8 and not extensions.smtputf8:
        lacks = "no upstream for this message offers SMTPUTF8"
    elif parameters.body == "8BITMIME" and not extensions.eightbitmime:
        lacks = "no upstream for this message offers 8BITMIME"
    elif parameters.size is not None and extensions.size and parameters.size > extensions.size:
        lacks = f"the upstream takes messages up to SIZE {extensions.size}"
    return Failure(Phase.MAIL, Cause.CAPABILITY, lacks) if lacks else None


def lacks_8bitmime(content: Content, extensions: Extensions) -> Failure | None:
    """Why the upstream cannot carry this content, or None: it has octets above 127 (RFC 6152)."""
    if extensions.eightbitmime or content.is_ascii:
        return None
    return Failure(Phase.DATA, Cause.CAPABILITY, "the content is 8-bit, and the upstream does not offer 8BITMIME")
