"""Notifications, end to end: of what was answered 250 and fails, whoever sent it is told, and nobody else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.ports import free_port
from rig.running import RunningServer, settings, single, upstream
from rig.sink import EXTENSIONS, StoringSink
from waypost.config.settings import NoticeSettings, SpoolSettings
from waypost.routing.route import Backoff, Copy

CONTENT = b"Subject: lunch\r\nMessage-ID: <1@example.com>\r\n\r\nbody\r\n..\r\n"
NO_DSN = tuple(word for word in EXTENSIONS if word != "DSN")


class Scene:
    """A server that stores first, in front of one provider."""

    def __init__(
        self, stack: ExitStack, folder: Path, extensions: tuple[str, ...], per_hour: int, **route: Any
    ) -> None:
        self.provider = stack.enter_context(StoringSink(extensions=extensions))
        self.provider.recipient_replies["nobody@example.org"] = "550 5.1.1 No such user"
        self.copies = stack.enter_context(StoringSink())
        self.copies.recipient_replies["bob@example.org"] = "550 5.1.1 Not here"
        self.port = free_port()
        more = {"acceptance": "spool", "backoff": Backoff(intervals=(0.2,), jitter=0)} | route
        if more.pop("copied", False):
            more["copies"] = (Copy(single(upstream("new", self.copies.port))),)
        configured = settings(self.port, upstream("provider", self.provider.port), **more)
        configured = replace(configured, spool=SpoolSettings(str(folder)), notices=NoticeSettings(per_hour=per_hour))
        self.server = stack.enter_context(RunningServer(configured))

    def send(self, *recipients: str, mail: str = "FROM:<ann@example.com>", rcpt: str = "") -> None:
        """A message that is answered 250."""
        with RawClient(self.port) as client:
            client.hello()
            client.command(f"MAIL {mail}", 250)
            for recipient in recipients:
                client.command(f"RCPT TO:<{recipient}>{rcpt}", 250)
            client.command("DATA", 354)
            client.send(CONTENT + b".\r\n")
            assert client.answer().code == 250


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:
        yield lambda extensions=EXTENSIONS, per_hour=20, **route: Scene(stack, tmp_path, extensions, per_hour, **route)


def test_who_sent_it_is_told_what_became_of_it(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.send(
        "bob@example.org", "nobody@example.org",
        mail="FROM:<ann@example.com> RET=FULL ENVID=q+2B1", rcpt=" NOTIFY=FAILURE ORCPT=rfc822;list@example.org",
    )  # fmt: skip
    stored = it.provider.wait_for(2)
    [bobs] = [each for each in stored if each.reverse_path]
    [notice] = [each for each in stored if not each.reverse_path]
    assert bobs.recipients == ("bob@example.org",)
    assert bobs.recipient_parameters == (("NOTIFY=FAILURE", "ORCPT=rfc822;list@example.org"),)
    assert notice.recipients == ("ann@example.com",)
    assert notice.recipient_parameters == (("NOTIFY=NEVER",),)
    message = message_from_bytes(notice.content.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    _, status, original = message.get_payload()
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<1@example.com>"
    of_message, of_nobody = status.get_payload()
    assert of_message["Original-Envelope-Id"] == "q+1"
    assert of_nobody["Final-Recipient"] == "rfc822; nobody@example.org"
    assert of_nobody["Original-Recipient"] == "rfc822; list@example.org"
    assert of_nobody["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"
    assert original.get_payload()[0]["Subject"] == "lunch"
    [told] = it.server.wait_for("notified", 1)
    assert told["action"] == "failed"
    assert told["recipients"] == ["nobody@example.org"]
    assert not it.server.told("dead")


def test_a_notification_that_fails_brings_no_other(scene: Callable[..., Scene]) -> None:
    it = scene()
    it.send("nobody@example.org", mail="FROM:<nobody@example.org>")
    [dead] = it.server.wait_for("dead", 1)
    assert dead["recipients"] == ["nobody@example.org"]
    assert dead["reverse_path"] == ""
    assert len(it.server.told("notified")) == 1
    assert it.provider.messages == []


@pytest.mark.parametrize(("mail", "rcpt"), [("FROM:<>", ""), ("FROM:<ann@example.com>", " NOTIFY=NEVER")])
def test_whoever_cannot_be_told_leaves_a_dead_letter(scene: Callable[..., Scene], mail: str, rcpt: str) -> None:
    it = scene()
    it.send("nobody@example.org", mail=mail, rcpt=rcpt)
    [dead] = it.server.wait_for("dead", 1)
    assert "550 5.1.1 No such user" in str(dead["reason"])
    assert not it.server.told("notified")


def test_a_copy_is_nobodys_business(scene: Callable[..., Scene]) -> None:
    it = scene(copied=True)
    it.send("bob@example.org")
    [dead] = it.server.wait_for("dead", 1)
    assert dead["role"] == "copy"
    assert not it.server.told("notified")


def test_a_mailbox_is_not_buried(scene: Callable[..., Scene]) -> None:
    it = scene(per_hour=1)
    for _ in range(3):
        it.send("nobody@example.org")
    it.server.wait_for("dead", 2)
    assert len(it.server.told("notified")) == 1
    assert len(it.server.told("notice_suppressed")) == 1


@pytest.mark.parametrize("extensions", [EXTENSIONS, NO_DSN])
def test_success_is_told_by_whoever_can(scene: Callable[..., Scene], extensions: tuple[str, ...]) -> None:
    it = scene(extensions)
    it.send("bob@example.org", rcpt=" NOTIFY=SUCCESS")
    if "DSN" in extensions:
        [message] = it.provider.wait_for(1)
        assert message.recipient_parameters == (("NOTIFY=SUCCESS",),)
        it.server.wait_for("relayed", 1)
        assert not it.server.told("notified")
    else:
        message, notice = it.provider.wait_for(2)
        assert message.recipient_parameters == ((),)
        assert b"\r\nAction: relayed\r\nStatus: 2.0.0\r\n" in notice.content


def test_a_delay_is_told_once(scene: Callable[..., Scene]) -> None:
    it = scene(delay_warning=0.001)
    it.provider.recipient_replies["later@example.org"] = "451 4.3.0 Later"
    it.send("later@example.org")
    it.server.wait_for("deferred", 3)
    [notice] = it.provider.wait_for(1)
    assert b"\r\nAction: delayed\r\nStatus: 4.3.0\r\n" in notice.content
    assert len(it.server.told("notified")) == 1
