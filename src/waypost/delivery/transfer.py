"""Delivering where no client waits: each recipient gets its own way through the pool."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from waypost.delivery.candidates import Candidates, Judged, Link
from waypost.delivery.relay import AttemptLog
from waypost.delivery.sender import Fit, fit, lacks_8bitmime
from waypost.mail.content import Content
from waypost.mail.message import Envelope, Message, Recipient
from waypost.mail.outcome import Answer, Attempt, Failure, Outcome, Phase, RecipientOutcome, Status
from waypost.mail.rewrite import rewritten_content
from waypost.routing.route import Pool, Upstream
from waypost.routing.verdict import Kind
from waypost.smtp import commands as c
from waypost.smtp.client import Extensions
from waypost.smtp.reply import Reply


@dataclass(slots=True)
class _Progress:
    """What has been found out so far."""

    done: list[RecipientOutcome] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    first: dict[Recipient, tuple[Answer, str]] = field(default_factory=dict)  # of the first-choice upstream
    permanent: dict[Recipient, bool] = field(default_factory=dict)

    def settle(self, recipients: Sequence[Recipient], status: Status, judged: Judged) -> None:
        """These recipients' fate is decided."""
        attempt = judged.attempt
        self.done += [RecipientOutcome(r, status, attempt.answer, attempt.upstream) for r in recipients]

    def note(self, recipients: Sequence[Recipient], judged: Judged) -> None:
        """These recipients go on to the next upstream."""
        for recipient in recipients:
            self.first.setdefault(recipient, (judged.attempt.answer, judged.attempt.upstream))
            before = self.permanent.get(recipient, True)
            self.permanent[recipient] = before and not judged.verdict.transient


async def deliver(candidates: Candidates, message: Message, pool: Pool, log: AttemptLog) -> Outcome:
    """Delivers a copy to a pool, with failover, and says what became of each recipient."""
    progress = _Progress()
    pending = message.envelope.recipients
    for member in candidates.order(pool):
        pending = await _to_upstream(candidates, message, member.upstream, pending, progress, log)
        if not pending:
            break
    for recipient in pending:
        answer, upstream = progress.first[recipient]
        status = Status.FAILED if progress.permanent[recipient] else Status.DEFERRED
        progress.done.append(RecipientOutcome(recipient, status, answer, upstream))
    return Outcome(tuple(progress.done), tuple(progress.attempts))


async def _to_upstream(
    candidates: Candidates,
    message: Message,
    upstream: Upstream,
    pending: Sequence[Recipient],
    progress: _Progress,
    log: AttemptLog,
) -> tuple[Recipient, ...]:
    """One upstream, in as many transactions as it takes; the recipients that should go on to the next."""
    onward: list[Recipient] = []
    group = tuple(pending)
    while group:
        envelope = Envelope(message.envelope.reverse_path, group, message.envelope.parameters)
        content = message.content
        if upstream.rewrite_from is not None:
            content = rewritten_content(content, upstream.rewrite_from)
        link = await candidates.begin(upstream, _worded(envelope, upstream), background=True, content=content)
        if isinstance(link, Judged):
            progress.attempts.append(link.attempt)
            log.attempted(message.id, link.attempt, "copy")
            if not link.verdict.fail_over:
                progress.settle(group, Status.FAILED, link)
                return tuple(onward)
            progress.note(group, link)
            return (*onward, *group)
        accepted, crowded = _sorted(candidates, link, group, progress, onward)
        if not accepted:
            link.lent.release()
            if crowded:  # too many even alone: no further transaction would change that
                onward += crowded
            return tuple(onward)
        judged = await _content(candidates, content, link)
        progress.attempts.append(judged.attempt)
        if judged.verdict.kind is Kind.ACCEPTED:
            progress.settle(accepted, Status.RELAYED, judged)
        elif judged.verdict.kind is Kind.IN_DOUBT:
            progress.settle(accepted, Status.IN_DOUBT, judged)
        else:
            log.attempted(message.id, judged.attempt, "copy")
            if not judged.verdict.fail_over:
                progress.settle(accepted, Status.FAILED, judged)
            else:
                progress.note(accepted, judged)
                return (*onward, *accepted, *crowded)
        group = tuple(crowded)
    return tuple(onward)


def _sorted(
    candidates: Candidates, link: Link, group: Sequence[Recipient], progress: _Progress, onward: list[Recipient]
) -> tuple[list[Recipient], list[Recipient]]:
    """Those accepted, and those for whom there was no room in this transaction."""
    accepted: list[Recipient] = []
    crowded: list[Recipient] = []
    for recipient, answer in zip(group, link.recipients, strict=True):
        if isinstance(answer, Reply) and answer.is_positive:
            accepted.append(recipient)
            continue
        judged = candidates.judge(link.upstream, Phase.RCPT, answer, link.began, link.lent)
        if judged.verdict.kind is Kind.TOO_MANY_RECIPIENTS:
            progress.note((recipient,), judged)
            crowded.append(recipient)
        elif judged.verdict.fail_over:
            progress.note((recipient,), judged)
            onward.append(recipient)
        else:
            progress.settle((recipient,), Status.FAILED, judged)
    return accepted, crowded


async def _content(candidates: Candidates, content: Content, link: Link) -> Judged:
    lent = link.lent
    try:
        answer: Answer
        if link.dot is not None:
            phase, answer = Phase.DOT, link.dot
        elif (lacking := lacks_8bitmime(content, lent.extensions)) is not None:
            phase, answer = Phase.DATA, lacking
        else:
            phase, answer = await lent.send(content)
        return candidates.judge(link.upstream, phase, answer, link.began, lent)
    finally:
        lent.release()


def _worded(envelope: Envelope, upstream: Upstream) -> Fit:
    def worded(extensions: Extensions) -> tuple[c.Mail, Sequence[c.Rcpt]] | Failure:
        return fit(envelope, upstream, extensions, quiet=True)

    return worded
