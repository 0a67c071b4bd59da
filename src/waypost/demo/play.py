"""Plays one act: sends the message, waits for it to arrive, and compares that with what must be."""

import asyncio
import smtplib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from waypost.demo.reasons import reason
from waypost.demo.stage import PASSWORD, SUBMISSION, USERNAME, Stage
from waypost.demo.tour import Act
from waypost.mail.header import Header
from waypost.sink.stored import StoredMessage

_PATIENCE = 6.0  # seconds for a message to arrive; a copy that failed is tried again after one
_CLIENT_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one message."""

    act: Act
    told: str
    went: tuple[str, ...]
    why: str
    differs: tuple[str, ...]
    """What is not as it must be, in sentences; empty when all is well."""


async def play(stage: Stage, act: Act) -> Result:
    """One act on the stage."""
    before = {name: sink.mailbox.total for name, sink in stage.sinks.items()}
    stage.records.last.clear()
    if act.down is not None:
        await stage.take_down(act.down)
    code, text = await asyncio.to_thread(send, stage.ports[act.listener], act)
    if act.down is not None:
        await stage.bring_up(act.down)
    if code == 250:  # otherwise nothing is under way
        await _arrival(stage, act, before)
    arrived = {name: _since(stage, name, count) for name, count in before.items()}
    went = tuple(name for name, messages in arrived.items() if messages)
    differs = tuple(_differences(act, code, text, arrived))
    return Result(act, f"{code} {text}".strip(), went, reason(list(stage.records.last), act.down), differs)


async def _arrival(stage: Stage, act: Act, before: Mapping[str, int]) -> None:
    """Waits until the message has arrived, with its copy; not for ever: what is missing is said by who compares."""
    try:
        async with asyncio.timeout(_PATIENCE):
            for name in act.arrives:
                await stage.sinks[name].wait_for(before[name] + 1, _PATIENCE)
            if len(act.arrives) > 1:  # the copy is written down a moment after it has arrived
                await stage.records.wait_for("copied")
    except TimeoutError:
        pass


def leftovers(stage: Stage, results: Sequence[Result]) -> list[str]:
    """What the servers got besides the messages of these results: late, and so nobody's."""
    found = []
    for name, sink in stage.sinks.items():
        expected = sum(name in result.went for result in results)
        if sink.mailbox.total > expected:
            found.append(f"{name} got {sink.mailbox.total} messages, not {expected}")
    return found


def _since(stage: Stage, name: str, count: int) -> Sequence[StoredMessage]:
    return [message for message in stage.sinks[name].messages if message.id > count]


def send(port: int, act: Act) -> tuple[int, str]:
    """Sends the message with the standard library's client; the last reply, or a made-up one when there is none.

    To be called in a thread: it waits for the server, which runs in the loop.
    """
    try:
        with smtplib.SMTP("127.0.0.1", port, "app.example.com", timeout=_CLIENT_PATIENCE) as client:
            client.ehlo()
            if act.listener == SUBMISSION:
                client.login(USERNAME, PASSWORD)
            answer = client.mail(act.reverse_path, () if act.content.isascii() else ("BODY=8BITMIME",))
            answers = [client.rcpt(recipient) for recipient in act.recipients]
            if answer[0] == 250 and any(code == 250 for code, _ in answers):
                answers.append(client.data(act.content))
            code, text = answers[-1]
    except smtplib.SMTPResponseException as error:
        code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
    except (OSError, smtplib.SMTPException) as error:
        return 0, f"no answer: {error}"
    return code, text.decode("utf-8", "backslashreplace")


def _differences(act: Act, code: int, text: str, arrived: Mapping[str, Sequence[StoredMessage]]) -> list[str]:
    found = [] if code == act.code else [f"the client was told {code} {text!r}, not {act.code}"]
    for name, messages in arrived.items():
        expected = act.arrives.get(name)
        if expected is None:
            found += [f"{name} got a message that is not for it"] * len(messages)
        elif len(messages) != 1:
            found.append(f"{name} got it {len(messages)} times, not once")
        else:
            found += [f"{name}: {what}" for what in _damage(act, expected, messages[0])]
    contents = {message.content for messages in arrived.values() for message in messages}
    if len(contents) > 1:
        found.append("the copy is not what the primary got")
    return found


def _damage(act: Act, recipients: Sequence[str], message: StoredMessage) -> list[str]:
    found = []
    if message.reverse_path != act.reverse_path:
        found.append(f"the reverse-path is {message.reverse_path!r}, not {act.reverse_path!r}")
    if message.recipients != tuple(recipients):
        found.append(f"the recipients are {', '.join(message.recipients)}, not {', '.join(recipients)}")
    field = next(Header(message.content).fields(), None)
    if field is None or field.name != b"Received":
        found.append("there is no Received field in front")
    elif message.content[field.end :] != act.content:
        found.append("the content is not byte for byte what was sent, behind one Received field")
    return found
