"""`waypost check` and `waypost config`, as they are typed."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from configuration_texts import SMALL

from rig.sink import StoringSink
from waypost.cli import main
from waypost.config.load import read

SECRET = """\
listeners: [{address: "127.0.0.1:2525", mode: submission, allow_plaintext_auth: true}]
accounts: {app: {password: hunter2}}
upstreams:
  a:
    address: "127.0.0.1:%d"
    tls: %s
    auth: {username: u, password: hunter3}
pools: {p: [a]}
routes: {all: {primary: a, copies: [{to: a, sample: 0.1}]}}
spool: {path: spool}
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(("WAYPOST_", "SMTP_DUP_")) or name == "USE_INSECURE_AUTH":
            monkeypatch.delenv(name)


@pytest.fixture
def secret(folder):
    def secret(port=25, tls="starttls"):
        (folder / "waypost.yaml").write_text((SECRET % (port, tls)).replace("{p: [a]}", "{p: {upstreams: [a]}}"))

    return secret


def test_check_of_a_fine_file(secret, capsys):
    secret()
    assert main(["check"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("waypost.yaml: fine (native format)\n  listens on 127.0.0.1:2525: submission, no TLS")
    assert "route all: to a; copies to a; acceptance hybrid\n" in printed.out
    assert "1 account, 0 rules" in printed.out
    assert "what is owed waits in spool" in printed.out
    said = (
        "waypost.yaml:9:42: routes.all.copies[0].to: a is the primary and gets a copy, so it gets every message twice"
    )
    assert printed.err.splitlines() == [
        f"warning: {said}",
        "warning: waypost.yaml:8:9: pools.p: is not used: no route names it",
    ]


def test_check_prints_every_mistake(folder, capsys):
    (folder / "c.yaml").write_text(SMALL.replace("mode: relay", "mode: rely").replace("primary: a", "primary: b"))
    assert main(["check", "--config", "c.yaml"]) == 78
    assert capsys.readouterr().err.splitlines() == [
        "c.yaml:1:47: listeners[0].mode: 'rely' is not one of submission, relay; did you mean relay?",
        "c.yaml:3:25: routes.all.primary: there is no pool or upstream 'b'; known here: a",
        "2 mistakes",
    ]


class Greeter:
    """Listens, says one thing to whoever comes first, and hangs up."""

    def __init__(self, greeting):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(greeting,))
        self._thread.start()

    def _run(self, greeting):
        connection, _ = self._socket.accept()
        with connection:
            connection.sendall(greeting)

    def close(self):
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"220 hello \x1b[31m\r\n", "FAILED  a (127.0.0.1:{port}): ehlo: the upstream closed the connection"),
        (b"554 go away\r\n", "FAILED  a (127.0.0.1:{port}): greeting: 554 go away. It wants no connections"),
        (b"", "FAILED  a (127.0.0.1:{port}): greeting: the upstream closed the connection."),
    ],
)
def test_check_online(secret, capsys, greeting, words):
    greeter = Greeter(greeting)
    secret(greeter.port)
    assert main(["check", "--online"]) == 1
    greeter.close()
    printed = capsys.readouterr().out
    assert words.format(port=greeter.port) in printed
    assert "\x1b" not in printed


def test_check_online_when_all_is_well(folder, capsys):
    with StoringSink() as sink:
        (folder / "c.yaml").write_text(SMALL.replace("a.example.com:25", f"127.0.0.1:{sink.port}"))
        assert main(["check", "--config", "c.yaml", "--online"]) == 0
    assert f"fine  a (127.0.0.1:{sink.port}): resolve, connect, greeting, ehlo\n" in capsys.readouterr().out
    assert sink.verbs() == ["EHLO", "QUIT"]


def test_check_online_when_nobody_is_there(secret, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    secret(port)
    assert main(["check", "--online"]) == 1
    assert f"FAILED  a (127.0.0.1:{port}): connect: the upstream cannot be reached: Conn" in capsys.readouterr().out


def test_check_online_a_host_without_an_address(folder, capsys):
    (folder / "c.yaml").write_text(SMALL.replace("a.example.com", "nobody.invalid"))
    assert main(["check", "--config", "c.yaml", "--online"]) == 1
    assert "FAILED  a (nobody.invalid:25): resolve: nobody.invalid has no address" in capsys.readouterr().out


def test_check_online_speaks_tls_where_it_is_implicit(secret, capsys):
    greeter = Greeter(b"220 not TLS at all\r\n")
    secret(greeter.port, "implicit")
    assert main(["check", "--online"]) == 1
    greeter.close()
    assert "FAILED  a" in (printed := capsys.readouterr().out)
    assert "set `tls: starttls`" in printed


def test_show_says_where_everything_comes_from_and_no_secret(secret, capsys, monkeypatch):
    secret()
    monkeypatch.setenv("WAYPOST_LOG_LEVEL", "debug")
    assert main(["config", "show"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split("  # ") for line in shown.splitlines() if "  # " in line]
    said = {line.strip(): origin for line, origin in lines}
    assert said["level: debug"] == "WAYPOST_LOG_LEVEL"
    assert said["- address: 127.0.0.1:2525"] == "waypost.yaml:1:23"
    assert said["mode: starttls"] == "waypost.yaml:6:10"
    assert said["verify: true"] == "default"
    assert said["a: 1"] == "waypost.yaml:8:25"
    assert said["sample: 10%"] == "waypost.yaml:9:53"
    assert said["required: true"] == "default"
    assert said["username: u"] == "waypost.yaml:7:22"
    assert "hunter" not in shown
    assert shown.count("********") == 2


def test_what_is_shown_is_the_native_form_but_for_the_secrets(secret, folder, capsys):
    secret()
    assert main(["config", "show"]) == 0
    shown = capsys.readouterr().out
    (folder / "again.yaml").write_text(shown.replace("********", "hunter2", 1).replace("********", "hunter3", 1))
    again, first = read("again.yaml", {}).settings, read("waypost.yaml", {}).settings
    assert replace(again, warnings=()) == replace(first, warnings=())
    assert len(again.warnings) == len(first.warnings)


def test_show_without_origins_and_as_json(secret, capsys):
    secret()
    assert main(["config", "show", "--no-origin"]) == 0
    assert "#" not in capsys.readouterr().out
    assert main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["format"]) == ("waypost.yaml", "native")
    assert shown["settings"]["accounts"]["app"]["password"] == "********"
    assert shown["origins"]["upstreams.a.tls.mode"] == "waypost.yaml:6:10"
    assert shown["origins"]["upstreams.a.connections"] == "default"


def test_show_of_a_wrong_file(folder, capsys):
    (folder / "c.yaml").write_text("nonsense: 1\n")
    assert main(["config", "show", "--config", "c.yaml"]) == 78
    assert "c.yaml:1:1: nonsense" in capsys.readouterr().err


URL = "postgresql://waypost:hunter2@db.example.com/waypost"


@pytest.mark.parametrize("spool", [URL, f"{{url: '{URL}'}}", "{url_file: url.txt}"])
def test_the_password_of_a_database_is_not_shown(folder, capsys, spool):
    (folder / "url.txt").write_text(URL + "\n")
    (folder / "waypost.yaml").write_text(SMALL + f"spool: {spool}\n")
    assert main(["check"]) == 0
    assert "waits in postgresql://waypost:********@db.example.com/waypost\n" in capsys.readouterr().out
    assert main(["config", "show"]) == 0
    shown = capsys.readouterr().out
    assert ("********@db.example.com" in shown) is ("url_file" not in spool)
    assert main(["config", "show", "--json"]) == 0
    assert "hunter2" not in shown + capsys.readouterr().out
    assert "hunter2" not in repr(read("waypost.yaml", {}).settings)


def test_a_database_without_the_package_for_it(folder, capsys, monkeypatch):
    monkeypatch.setattr("waypost.config.spool.find_spec", lambda name: None)
    (folder / "waypost.yaml").write_text(SMALL + f"spool: {URL}\n")
    for command in ("check", "run"):
        assert main([command]) == 78
        assert capsys.readouterr().err.splitlines()[0] == (
            "waypost.yaml:4:8: spool.url: needs the Python package asyncpg, which is not installed; "
            "`pip install asyncpg` where Waypost is installed"
        )


def test_show_of_the_settings_of_the_spool(folder, capsys):
    route = "{primary: a, acceptance: hybrid, delay_warning: 4h, sync_budget: 20s}"
    text = SMALL.replace("{primary: a}", route).replace(':25"}', ':25", rate: 300/minute}')
    (folder / "waypost.yaml").write_text(text + "spool: here\njournal: off\nnotifications: {sender: a@example.com}\n")
    assert main(["config", "show"]) == 0
    lines = (line.split("  # ") for line in capsys.readouterr().out.splitlines() if "  # " in line)
    said = [(line.strip(), origin) for line, origin in lines]
    for expected in (
        ("rate: 5/second", "waypost.yaml:2:52"),
        ("acceptance: hybrid", "waypost.yaml:3:40"),
        ("delay_warning: 4h", "waypost.yaml:3:63"),
        ("sync_budget: 20s", "waypost.yaml:3:80"),
        ("path: here", "waypost.yaml:4:8"),
        ("allow_temporary: false", "default"),
        ("keep_dead: 30d", "default"),
        ("keep: 'off'", "waypost.yaml:5:10"),
        ("sender: a@example.com", "waypost.yaml:6:25"),
        ("per_hour: 20", "default"),
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("listeners", "acceptance", "said"),
    [
        ("relay", "", "pass"),
        ("submission", "", "hybrid"),
        ("submission", ", acceptance: spool", "spool"),
        ("both", "", "hybrid for submission, pass for relay"),
        ("both", ", acceptance: hybrid", "hybrid"),
    ],
)
def test_check_says_how_a_route_accepts(folder, capsys, listeners, acceptance, said):
    ways = {
        "relay": "[{address: '127.0.0.1:1', mode: relay}]",
        "submission": "[{address: '127.0.0.1:2', mode: submission, trusted_networks: 10.0.0.0/8}]",
    }
    ways["both"] = ways["relay"][:-1] + ", " + ways["submission"][1:]
    text = f"listeners: {ways[listeners]}\n" + SMALL.partition("\n")[2].replace("primary: a", f"primary: a{acceptance}")
    (folder / "waypost.yaml").write_text(text + "spool: here\n")
    assert main(["check"]) == 0
    assert f"\n  route all: to a; acceptance {said}\n" in capsys.readouterr().out


def test_import(folder, capsys):
    (folder / "old.yaml").write_text("users: [{email: a@b, password: '0755', downstreams: [{addr: 'c:25'}]}]\n")
    assert main(["config", "import", "old.yaml"]) == 0
    printed = capsys.readouterr()
    assert "passwords" in printed.err
    (folder / "new.yaml").write_text(printed.out)
    assert printed.out.startswith("# Imported from old.yaml (smtpmux format)")
    settings = read("new.yaml", {}).settings
    assert settings.routes.accounts["a@b"].password == "0755"
    assert settings.routes.routes["a@b"].acceptance == "hybrid"
    assert "With `acceptance: pass` it is refused for now instead" in printed.out
    assert "with `acceptance: pass` on the routes" in printed.err
    assert "# spool:\n#   path: /" in printed.out
    assert main(["config", "import", "new.yaml"]) == 1
    assert "native form already" in capsys.readouterr().err


def test_import_into_the_file_that_is_looked_for_first(folder, capsys):
    (folder / "config.yaml").write_text("relay: {destination_primary: 'a.example.com:25'}\n")
    (folder / "waypost.yaml").touch()  # as the shell does for `waypost config import > waypost.yaml`
    assert main(["config", "import"]) == 0
    assert capsys.readouterr().out.startswith("# Imported from config.yaml (GoSMTP-dup format)")
    assert main(["check"]) == 78, "everywhere else an empty file is a mistake"


def test_import_says_where_copies_will_wait(folder, capsys, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/state")
    relay = "relay: {destination_primary: 'a.example.com:25'%s, timeout_seconds: 20}\n"
    (folder / "alone.yaml").write_text(relay % "")
    assert main(["config", "import", "alone.yaml"]) == 0
    assert "spool" not in capsys.readouterr().out
    (folder / "old.yaml").write_text(relay % ", destination_backups: ['b.example.com:25']")
    assert main(["config", "import", "old.yaml"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("    timeouts: 20s\n    background_timeouts: 20s\n") == 2
    assert "$STATE_DIRECTORY" in printed
    before, _, spool = printed.rpartition("# spool:\n")
    assert spool == "#   path: /state\n"
    (folder / "new.yaml").write_text(before + "spool:\n" + spool.removeprefix("#"))
    monkeypatch.delenv("STATE_DIRECTORY")
    assert read("new.yaml", {}).settings.spool.path == "/state"


@pytest.mark.parametrize(
    ("mode", "networks", "said"),
    [
        ("relay", "", "relay, no TLS; for clients in 127.0.0.0/8, ::1/128"),
        ("relay", "10.0.0.0/8", "relay, no TLS; for clients in 10.0.0.0/8"),
        ("submission", "10.0.0.0/8", "submission, no TLS; for accounts, and clients in 10.0.0.0/8"),
        (
            "relay",
            "10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, 10.5.0.0/16, 10.6.0.0/16",
            "relay, no TLS; for clients in 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16 and 2 more",
        ),
    ],
)
def test_check_says_whom_a_listener_serves(folder, capsys, mode, networks, said):
    text = SMALL.replace("mode: relay", f"mode: {mode}, trusted_networks: [{networks}]")
    (folder / "waypost.yaml").write_text(text + "admin: {address: '[::1]:8025'}\n")
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"  listens on 127.0.0.1:2525: {said}"
    assert lines[-1] == "  admin on [::1]:8025"


def test_check_breaks_its_lines_on_a_terminal_only(folder):
    (folder / "waypost.yaml").write_text("nonsense: 1\nlisteners: [{address: x, mode: relay}]\nmore: 1\n")
    command = [sys.executable, "-m", "waypost", "check"]
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        environ = {**os.environ, "COLUMNS": "50"}
        assert subprocess.run(command, stdout=theirs, stderr=theirs, env=environ, timeout=30).returncode == 78
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while block := screen.read(4096):
                shown += block
    whole = subprocess.run(command, capture_output=True, timeout=30).stderr.decode()
    lines = shown.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
    assert max(map(len, lines)) < 50
    assert len(lines) > len(whole.splitlines())
    assert " ".join("\n".join(lines).split()) == " ".join(whole.split())


def test_init_prints_a_sample_that_is_fine(folder, capsys):
    assert main(["config", "init"]) == 0
    (folder / "waypost.yaml").write_text(capsys.readouterr().out)
    assert main(["check"]) == 0
    assert capsys.readouterr().err == ""


def test_init_with_every_comment_taken_away_has_only_known_keys(folder, capsys):
    """The commented lines of the sample are advice too, and must not be wrong."""
    main(["config", "init"])
    lines = capsys.readouterr().out.splitlines()
    wanted = (
        "hostname: ",
        "tls:",
        "  certificate:",
        "  key:",
        "spool:",
        "  path:",
        "rules:",
        "    route:",
        "  - recip",
    )
    bare = [line[2:] if line.startswith("# ") and line[2:].startswith(wanted) else line for line in lines]
    (folder / "c.yaml").write_text("\n".join(bare))
    assert main(["check", "--config", "c.yaml"]) == 78
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "tls.certificate: cannot read /etc/waypost/cert.pem" in errors[0]
    assert "tls.key: cannot read /etc/waypost/key.pem" in errors[1]


def test_schema_is_json_and_knows_every_section(capsys):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["listeners", "upstreams", "routes"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["routes"]["additionalProperties"]["$ref"].endswith("RouteSection")
    for section in schema["$defs"].values():
        assert all("description" in field or "$ref" in field for field in section["properties"].values())


@pytest.mark.parametrize("words", [["check"], ["config"], ["config", "show"], ["config", "import"], ["config", "init"]])
def test_help_has_examples(words, capsys):
    assert main([*words, "--help"]) == 0
    assert "examples:" in capsys.readouterr().out
