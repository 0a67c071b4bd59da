"""swaks, as smtpmux's walk-through uses it: its configuration, its variable, its command lines apart from ports."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig.go_programs import build
from rig.programs import lacking, run, transcript
from rig.sink import StoringSink
from rig.waypost import WaypostProcess
from waypost.store.file_system import temporary_file_system

QUICK_START = """\
users:
  - email: "test@user.com"
    password: "password123"
    selector_algo_path: "./plugins/round_robin/round-robin-plugin"
    downstreams:
      - addr: "{first}"
        user: "any"
        pass: "any"
      - addr: "{second}"
        user: "any"
        pass: "any"
"""

PORT = 1020
ANYBODY = {"any": "any"}


@pytest.fixture
def providers(make_sink: Callable[[StoringSink], StoringSink]) -> tuple[StoringSink, StoringSink]:
    """The two test servers of the walk-through, which take any credentials: here, those it gives."""
    first, second = (make_sink(StoringSink(name=name, accounts=ANYBODY)) for name in ("mailserve1", "mailserve2"))
    return first, second


@pytest.fixture
def multiplexer(
    request: pytest.FixtureRequest, tmp_path: Path, providers: tuple[StoringSink, StoringSink]
) -> Iterator[WaypostProcess]:
    """Waypost in smtpmux's place, on smtpmux's own port, which its file cannot change.

    Its parameter is the folder for the queue, when that is not one on a disk.
    """
    try:
        with socket.create_server(("", PORT)):
            pass
    except OSError as error:
        lacking(f"cannot listen on port {PORT}, smtpmux's own: {error.strerror}")
    first, second = providers
    (tmp_path / "config.yaml").write_text(QUICK_START.format(first=first.address, second=second.address))
    environment = {"USE_INSECURE_AUTH": "true", "STATE_DIRECTORY": getattr(request, "param", str(tmp_path / "state"))}
    with WaypostProcess(tmp_path, None, ports=[PORT], env=environment) as process:
        yield process


@pytest.mark.usefixtures("multiplexer")
def test_the_walk_through_of_smtpmux(providers: tuple[StoringSink, StoringSink]) -> None:
    for _ in range(4):
        result = run(
            f"""
            swaks --to hello@smtpmux.what
                  --from curious@user.com
                  --server localhost:{PORT}
                  -a PLAIN
                  --auth-user test@user.com
                  --auth-password password123
                  --body "hello user"
            """
        )
        assert result.returncode == 0, transcript(result)
        assert b"<~  235 " in result.stdout or b"<-  235 " in result.stdout
    # Round robin as its users understand it: in turn, not by chance.
    assert [len(provider.messages) for provider in providers] == [2, 2]
    for message in (*providers[0].messages, *providers[1].messages):
        assert message.username == "any"
        assert message.recipients == ("hello@smtpmux.what",)
        # "any" is a login name and no address: it replaces neither the reverse-path nor the From field (S5).
        assert message.reverse_path == "curious@user.com"
        assert b"\r\nFrom: curious@user.com\r\n" in message.content
        assert b"\r\n\r\nhello user\r\n" in message.content


@pytest.mark.usefixtures("multiplexer")
def test_the_second_command_line_of_smtpmux(providers: tuple[StoringSink, StoringSink]) -> None:
    result = run(
        f"""
        swaks --to recipient@example.com
              --from test@user.com
              --server localhost:{PORT}
              -a PLAIN
              --auth-user test@user.com
              --auth-password password123
              --body "maaaa"
        """
    )
    assert result.returncode == 0, transcript(result)
    [message] = [message for provider in providers for message in provider.messages]
    assert message.recipients == ("recipient@example.com",)
    assert b"\r\n\r\nmaaaa\r\n" in message.content


SELECTORS = {
    "plugins/rotate/rotate-plugin": None,  # the example in Go
    "last.star": "def selector(downstreams):\n    for ds in reversed(downstreams):\n        send(ds=ds)\n",
    "last.py": "def choose(question):\n    return [each.name for each in reversed(question.upstreams)]\n",
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_command_line_with_a_selector_of_each_kind(
    selector: str, tmp_path: Path, providers: tuple[StoringSink, StoringSink]
) -> None:
    """As the file has it: a path from the working directory, with and without a leading dot."""
    text, path = SELECTORS[selector], tmp_path / selector
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        build(Path(__file__).parents[2] / "examples" / "plugins" / "rotate" / "main.go", path)
    else:
        path.write_text(text)
    file = QUICK_START.format(first=providers[0].address, second=providers[1].address)
    written = f"./{selector}" if "/" in selector else selector
    (tmp_path / "config.yaml").write_text(file.replace("./plugins/round_robin/round-robin-plugin", written))
    environment = {"USE_INSECURE_AUTH": "true", "STATE_DIRECTORY": str(tmp_path / "state")}
    with WaypostProcess(tmp_path, None, ports=[PORT], env=environment) as process:
        for _ in range(4):
            result = run(f"{SUBMIT} {LOGIN} password123")
            assert result.returncode == 0, transcript(result)
        assert len(process.wait_for_record("advised", count=4)) == 4
    assert [len(provider.messages) for provider in providers] == ([2, 2] if text is None else [0, 4])
    assert all(message.username == "any" for provider in providers for message in provider.messages)


SUBMIT = f"swaks --to hello@smtpmux.what --from curious@user.com --server localhost:{PORT}"
LOGIN = "-a PLAIN --auth-user test@user.com --auth-password"


@pytest.mark.usefixtures("multiplexer")
def test_a_provider_that_is_down_is_not_noticed_by_the_client(providers: tuple[StoringSink, StoringSink]) -> None:
    providers[0].stop()
    for _ in range(3):
        result = run(f"{SUBMIT} {LOGIN} password123")
        assert result.returncode == 0, transcript(result)
    assert [len(provider.messages) for provider in providers] == [0, 3]


def test_every_provider_down_is_kept_for_later(
    multiplexer: WaypostProcess, providers: tuple[StoringSink, StoringSink]
) -> None:
    """The queue that smtpmux's diagram shows."""
    for provider in providers:
        provider.stop()
    result = run(f"{SUBMIT} {LOGIN} password123")
    assert result.returncode == 0, transcript(result)
    assert (multiplexer.folder / "state" / "spool.db").exists()
    assert "is kept and tried again for five days" in multiplexer.output()


IN_MEMORY = "/dev/shm"


@pytest.mark.skipif(temporary_file_system(Path(IN_MEMORY)) is None, reason=f"{IN_MEMORY} is not in memory here")
@pytest.mark.parametrize("multiplexer", [f"{IN_MEMORY}/waypost-test"], indirect=True)
@pytest.mark.usefixtures("multiplexer")
def test_every_provider_down_is_a_transient_failure_where_nothing_can_be_kept(
    providers: tuple[StoringSink, StoringSink],
) -> None:
    """Defect S7: 554, so the client gave up."""
    for provider in providers:
        provider.stop()
    result = run(f"{SUBMIT} {LOGIN} password123")
    assert result.returncode != 0
    assert re.search(rb"<\*\* 4[0-9][0-9] ", result.stdout), transcript(result)
    assert not re.search(rb"<\*\* 5[0-9][0-9] ", result.stdout), transcript(result)


@pytest.mark.usefixtures("multiplexer")
def test_without_the_right_password_nothing_is_sent(providers: tuple[StoringSink, StoringSink]) -> None:
    wrong = run(f"{SUBMIT} {LOGIN} wrong")
    assert wrong.returncode == 28, transcript(wrong)  # swaks: authentication failed
    none = run(SUBMIT)
    assert none.returncode == 23, transcript(none)  # swaks: MAIL was refused
    assert [provider.messages for provider in providers] == [[], []]


@pytest.mark.usefixtures("relay")
def test_a_pipelining_client_hears_of_each_recipient(port: int, sink: StoringSink) -> None:
    sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user here"
    recipients = "b@example.org,nobody@example.org,c@example.org"
    result = run(f"swaks --server 127.0.0.1:{port} --from a@example.com --to {recipients} --pipeline --body three")
    assert result.returncode == 0, transcript(result)
    assert b"550 5.1.1 no such user here" in result.stdout
    [message] = sink.messages
    assert message.recipients == ("b@example.org", "c@example.org")
