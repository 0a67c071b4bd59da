"""The settings of docs/guides/from-gosmtp-dup.md, as they stand there, with a real Postfix in front.

Only addresses are changed (the port of Waypost, the two mail servers, the spool), and copies are retried sooner.
"""

import re
import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.ports import free_port
from rig.postfix import PostfixInstance
from rig.sink import StoringSink
from rig.waypost import WaypostProcess
from rig.waypost import waypost as run_waypost

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "from-gosmtp-dup.md"
BLOCKS = dict(re.findall(r"^```\w*\n# ([^\n]+)\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S))
"""The fenced blocks that begin with a comment, by that comment."""

CONTENT = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: guide\r\n\r\nbody\r\n"

MakeSink = Callable[[StoringSink], StoringSink]


def submit(postfix: PostfixInstance, *recipients: str) -> None:
    """Hands a message to Postfix."""
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
        assert client.sendmail("a@example.org", recipients, CONTENT) == {}


@pytest.fixture
def new(make_sink: MakeSink) -> StoringSink:
    """The new mail server; the old one is `sink`."""
    return make_sink(StoringSink(name="new.example"))


class Guide:
    """The guide's blocks, in the world of one test. Both mail servers and Waypost are on loopback."""

    def __init__(self, folder: Path, port: int, old: StoringSink, new: StoringSink) -> None:
        self.folder = folder
        self.port = port
        self._here = {
            "127.0.0.1:2525": f"127.0.0.1:{port}",
            "[127.0.0.1]:2525": f"[127.0.0.1]:{port}",
            "old.example.com:25": old.address,
            "new.example.com:25": new.address,
            "/var/lib/waypost": str(folder / "spool"),
            "127.0.0.1:8025": f"127.0.0.1:{free_port()}",
            "copies: [new]": "copies: [new], backoff: [1s]",
            "copies: [old]": "copies: [old], backoff: [1s]",
        }

    def block(self, title: str) -> str:
        """A block by its first line, with the addresses of this test."""
        text = BLOCKS[title]
        for theirs, ours in self._here.items():
            text = text.replace(theirs, ours)
        return text

    def lines(self, title: str, separator: str) -> dict[str, str]:
        """A block of settings or a map, as Postfix's instance takes it."""
        return dict(line.split(separator, 1) for line in self.block(title).split("\n") if line)

    def waypost(self, title: str, file: str = "waypost.yaml") -> WaypostProcess:
        """Waypost with a configuration of the guide, in the folder that stays the same from phase to phase."""
        (self.folder / file).write_text(self.block(title))
        environment = {"STATE_DIRECTORY": str(self.folder / "spool")}
        return WaypostProcess(self.folder, None, ports=[self.port], env=environment)


@pytest.fixture
def guide(tmp_path: Path, port: int, sink: StoringSink, new: StoringSink) -> Guide:
    """The guide, to be followed."""
    return Guide(tmp_path, port, sink, new)


def recipients(sink: StoringSink, count: int) -> list[str]:
    """To whom the sink's messages went, once there are `count`."""
    return sorted(recipient for message in sink.wait_for(count, seconds=30) for recipient in message.recipients)


def test_what_check_says_is_what_the_guide_says(guide: Guide) -> None:
    (guide.folder / "config.yaml").write_text(BLOCKS["config.yaml"])
    said = run_waypost(
        "check", "--config", str(guide.folder / "config.yaml"), env={"STATE_DIRECTORY": "/var/lib/waypost"}
    )
    assert said.returncode == 0
    assert said.stdout.replace(f"{guide.folder}/", "") in GUIDE.read_text("utf-8")


def test_the_old_file_with_one_domain(guide: Guide, sink: StoringSink, new: StoringSink) -> None:
    transport = guide.lines("/etc/postfix/transport", " ")
    assert guide.lines("/etc/postfix/main.cf", " = ") == {"transport_maps": "texthash:/etc/postfix/transport"}
    with guide.waypost("config.yaml", "config.yaml"), PostfixInstance(None, transport) as postfix:
        submit(postfix, "b@example.com")
        assert recipients(sink, 1) == recipients(new, 1) == ["b@example.com"]
    assert sink.messages[0].helo == "mail.example.com"


def test_single_recipients_come_before_their_domain(guide: Guide, sink: StoringSink) -> None:
    domain = {"example.com": f"smtp:[127.0.0.1]:{sink.port}"}  # as it was: straight to the old server
    single = guide.lines("/etc/postfix/transport for recipients", " ")
    with guide.waypost("phase 1"), PostfixInstance(None, {**domain, **single}) as postfix:
        submit(postfix, "alice@example.com", "bob@example.com", "carol@example.com")
        assert recipients(sink, 2) == ["alice@example.com", "bob@example.com", "carol@example.com"]
    through = [message.recipients for message in sink.messages if b"(Waypost " in message.content]
    assert through == [("alice@example.com", "bob@example.com")]


def test_the_whole_server(guide: Guide, sink: StoringSink) -> None:
    everything = {"default_transport": "smtp", **guide.lines("/etc/postfix/main.cf for the whole server", " = ")}
    with guide.waypost("phase 1"), PostfixInstance(everything) as postfix:
        submit(postfix, "b@example.com")
        submit(postfix, "c@example.net")
        assert recipients(sink, 2) == ["b@example.com", "c@example.net"]


def test_the_phases_and_the_swap_with_copies_still_owed(guide: Guide, sink: StoringSink, new: StoringSink) -> None:
    with PostfixInstance(None, guide.lines("/etc/postfix/transport", " ")) as postfix:
        with guide.waypost("phase 1"):
            submit(postfix, "one@example.com")
            assert recipients(sink, 1) == ["one@example.com"]
        new.stop()
        with guide.waypost("phase 2"):
            submit(postfix, "two@example.com")
            assert recipients(sink, 2) == ["one@example.com", "two@example.com"]
        new.start()
        with guide.waypost("phase 3"):
            submit(postfix, "three@example.com")
            assert recipients(sink, 3) == ["one@example.com", "three@example.com", "two@example.com"]
            assert recipients(new, 2) == ["three@example.com", "two@example.com"]
