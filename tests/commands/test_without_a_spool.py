"""A Waypost without a spool can be asked about its upstreams: it remembers nothing, and queues nothing."""

import stat

from rig.client import RawClient
from rig.ports import free_port
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waypost import WaypostProcess, waypost
from waypost.commands import FAILED, FINE

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"


def test_upstreams_are_listed_paused_and_resumed(tmp_path, sink: StoringSink):
    port = free_port()
    settings = relaying(port, sink.address, acceptance="pass")
    runtime = tmp_path / "runtime"

    def upstream(*words: str, command: str = "upstream") -> tuple[int, str]:
        arguments = [command, *words, "--config", str(tmp_path / "waypost.yaml")]
        done = waypost(*arguments, env={"RUNTIME_DIRECTORY": str(runtime)})
        return done.returncode, done.stdout + done.stderr

    def code_of_a_message() -> int:
        with RawClient(port) as client:
            client.hello()
            return client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code

    with WaypostProcess(tmp_path, settings, ports=[port]) as process:
        assert stat.S_IMODE((runtime / "control.sock").stat().st_mode) == 0o600
        code, said = upstream("list")
        assert (code, said.splitlines()[1].split()[:2]) == (FINE, ["primary", "healthy"])
        forgets = "until Waypost is started anew: without a spool it remembers nothing"
        assert upstream("pause", "primary") == (FINE, f"primary paused, {forgets}\n")
        assert code_of_a_message() == 451
        assert upstream("resume", "primary") == (FINE, "primary is used again\n")
        assert code_of_a_message() == 250
        for words in (("queue", "list"), ("queue", "summary"), ("queue", "show", "1"), ("trace", "bob@example.org")):
            code, said = upstream(*words[1:], command=words[0])
            assert (code, "has no spool" in said) == (FAILED, True), said
        assert upstream("pause", "primary")[0] == FINE
    assert not (runtime / "control.sock").exists()
    assert "control_not_available" not in process.output()
    with process:
        assert code_of_a_message() == 250  # a restart forgets the pause


def test_where_there_is_no_place_for_the_socket_mail_goes_on(tmp_path, sink: StoringSink):
    port = free_port()
    (tmp_path / "file").write_text("no folder")
    settings = relaying(port, sink.address, acceptance="pass")
    taken = {"RUNTIME_DIRECTORY": str(tmp_path / "file" / "runtime")}
    with WaypostProcess(tmp_path, settings, ports=[port], env=taken) as process, RawClient(port) as client:
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
        assert "control_not_available" in process.output()
