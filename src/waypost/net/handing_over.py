"""Handing content over to an upstream, by DATA or by BDAT, and knowing how far it came."""

from collections.abc import Sequence

from waypost.mail.content import Content
from waypost.mail.outcome import Answer, Cause, Failure, Phase
from waypost.net.dialogue import Dialogue, is_positive
from waypost.net.stream import StreamTimeoutError
from waypost.routing.route import Timeouts
from waypost.smtp import commands as c
from waypost.smtp.content import unstuffed
from waypost.smtp.reply import Reply

_MIN_CHUNK = 64 * 1024  # for BDAT


async def hand_over(dialogue: Dialogue, content: Content, timeouts: Timeouts) -> tuple[Phase, Answer]:
    """The content. Tells how far it came: at `Phase.DOT` the upstream may have accepted, answer or not."""
    if not content.ends_line and dialogue.engine.extensions.chunking:
        return await _send_chunks(dialogue, content, timeouts)
    answer = await dialogue.ask(c.Data(), Phase.DATA, timeouts.data)
    if isinstance(answer, Failure) or answer.code != 354:
        return Phase.DATA, answer
    end = (b"" if content.ends_line else b"\r\n") + dialogue.engine.send(c.EndOfContent())
    return await _send_all(dialogue, content, end, timeouts)


async def _send_all(dialogue: Dialogue, content: Content, end: bytes, timeouts: Timeouts) -> tuple[Phase, Answer]:
    stream = dialogue.stream
    assert stream is not None  # noqa: S101 # a transaction is under way
    held = b""
    sent = False
    try:
        # One piece is held back, so that the last one and the dot leave in one write.
        for piece in content.chunks():
            if held:
                sent = True
                stream.write_all((held,))
                if stream.must_drain:
                    await stream.drain(timeouts.block)
                if stream.at_eof or stream.is_broken or stream.has_data:
                    return Phase.CONTENT, await _early_answer(dialogue, timeouts)
            held = piece
    except StreamTimeoutError:
        return Phase.CONTENT, dialogue.broken(Phase.CONTENT, Cause.TIMEOUT, "the upstream takes no more content")
    except OSError as error:
        return Phase.CONTENT, dialogue.broken(Phase.CONTENT, Cause.LOCAL, f"the content cannot be read: {error}")
    if sent:
        dialogue.watch.lap(Phase.CONTENT)
    return await _end(dialogue, (held, end), timeouts)


async def _end(dialogue: Dialogue, last: Sequence[bytes], timeouts: Timeouts) -> tuple[Phase, Answer]:
    """The last octets of the content. Until they have left this process, nothing can have been accepted."""
    stream = dialogue.stream
    if stream is None or stream.at_eof or stream.is_broken or stream.has_data:
        return Phase.CONTENT, await _early_answer(dialogue, timeouts)
    stream.write_all(last)
    try:
        if stream.must_drain:
            await stream.drain(timeouts.block)
    except StreamTimeoutError:
        return Phase.CONTENT, dialogue.broken(Phase.CONTENT, Cause.TIMEOUT, "the upstream takes no more content")
    if stream.is_broken and stream.must_drain:
        return Phase.CONTENT, await _early_answer(dialogue, timeouts)
    (answer,) = await dialogue.answers((Phase.DOT,), timeouts.dot)
    return Phase.DOT, answer


async def _early_answer(dialogue: Dialogue, timeouts: Timeouts) -> Answer:
    """Why the upstream does not want the rest of the content. The connection is of no more use."""
    (answer,) = await dialogue.answers((Phase.CONTENT,), timeouts.command)
    if isinstance(answer, Reply) and answer.is_positive:
        return dialogue.broken(Phase.CONTENT, Cause.PROTOCOL, f"an answer before the end of the content: {answer}")
    dialogue.abort()
    return answer


async def _send_chunks(dialogue: Dialogue, content: Content, timeouts: Timeouts) -> tuple[Phase, Answer]:
    """By BDAT, for content whose last line has no end: DATA would have to add one."""
    dialogue.watch.start()
    pending = b""
    for piece in unstuffed(content.chunks()):
        if len(pending) >= _MIN_CHUNK:
            answer = await dialogue.ask(c.Bdat(len(pending)), Phase.CONTENT, timeouts.block, behind=pending)
            if not is_positive(answer):
                dialogue.abort()  # whether that ended the transaction, servers see differently
                return Phase.CONTENT, answer
            pending = b""
        pending += piece
    return await _end(dialogue, (dialogue.engine.send(c.Bdat(len(pending), last=True)), pending), timeouts)
