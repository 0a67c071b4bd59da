"""`waypost send` against a server that does what the test wants: transcript, exit codes, secrets, content."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from email import message_from_bytes, policy

import pytest

from rig.ports import free_port
from rig.running_sink import RunningSink
from waypost.commands import FAILED, FINE, TEMPORARY, UNREACHABLE, USAGE
from waypost.commands.send_dialogue import PHASES
from waypost.commands.send_message import FieldError, compose, wire_form
from waypost.net.settings import ServerTls
from waypost.smtp.order import ServerOptions

TO = ("--to", "bob@example.net")


def send(*options, port=None, data=None, env=None, cwd=None, host="127.0.0.1"):
    """Runs the command; what it wrote, and its exit code."""
    server = [] if port is None else ["--server", f"{host}:{port}"]
    utf8 = {"PYTHONIOENCODING": "utf-8"}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("WAYPOST_", "SMTP_"))}
    return subprocess.run(
        [sys.executable, "-m", "waypost", "send", *server, *options],
        input=data or b"",
        capture_output=True,
        timeout=60,
        env={**clean, **utf8, **(env or {})},
        cwd=cwd,
    )


def said(done):
    """The transcript without its times."""
    lines = done.stdout.decode().split("\n")
    assert all(re.match(r" *\d+\.\d{3} ", line) for line in lines[:-3]), done.stdout
    return [line[9:] for line in lines[:-3]]


def verdict(done):
    """The sentence at the end."""
    return done.stdout.decode().split("\n")[-2]


def test_an_accepted_message_and_the_whole_dialogue():
    with RunningSink() as sink:
        done = send(
            *TO,
            *("--to", "amy@example.org", "--from", "me@example.com", "--ehlo", "me.example.com"),
            *("--header", "X-Test: yes", "--header", "subject: mine", "--body", "Hello\n.dot\n"),
            port=sink.port,
        )
        [message] = sink.running.messages

    assert (done.returncode, done.stderr) == (FINE, b"")
    assert verdict(done) == "accepted: 250 2.0.0 Kept as message 1"
    lines = said(done)
    assert lines[:7] == [
        f"=== connecting to 127.0.0.1:{sink.port}",
        f"=== connected to 127.0.0.1:{sink.port}",
        "<-  220 sink.example ESMTP Waypost sink",
        " -> EHLO me.example.com",
        "<-  250-sink.example",
        "<-  250-PIPELINING",
        "<-  250-SIZE 52428800",
    ]
    for line in (" -> RCPT TO:<amy@example.org>", " -> X-Test: yes", " -> ..dot", " -> .", "<-  221 2.0.0 Bye"):
        assert line in lines
    assert message.content.endswith(b"\r\n\r\nHello\r\n.dot\r\n")
    assert (message.reverse_path, message.recipients) == ("me@example.com", ("bob@example.net", "amy@example.org"))
    parsed = message_from_bytes(message.content, policy=policy.default)
    assert (parsed["X-Test"], parsed["subject"], parsed["From"]) == ("yes", "mine", "me@example.com")
    assert len(parsed.get_all("subject")) == 1
    assert parsed["To"] == "bob@example.net, amy@example.org"
    assert parsed["Date"].datetime is not None
    assert message.client_name == "me.example.com"


def test_text_that_is_not_ascii():
    with RunningSink() as sink:
        done = send(*TO, "--subject", "Grüße" + " Grüße" * 20, "--body", "Schöne Grüße", "--from", "<>", port=sink.port)
        [message] = sink.running.messages
    assert done.returncode == FINE
    parsed = message_from_bytes(message.content, policy=policy.default)
    assert parsed["Subject"] == "Grüße" + " Grüße" * 20
    assert parsed.get_content() == "Schöne Grüße\r\n"
    assert (message.reverse_path, "BODY=8BITMIME" in message.parameters) == ("", True)
    assert " -> Schöne Grüße" in said(done)


def test_output_that_knows_ascii_only():
    with RunningSink() as sink:
        done = send(*TO, "--body", "Grüße\x1b[1m", port=sink.port, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == FINE
    assert " -> Gr\\xfc\\xdfe\\x1b[1m" in said(done)


def test_content_from_a_file_and_from_standard_input(tmp_path):
    content = b"Subject: x\n\n.\n..\nlone \r and \xff octets\r\n" + b"x" * 3000 + b"\nno end"
    expected = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n") + b"\r\n"
    (tmp_path / "message.eml").write_bytes(content)
    with RunningSink() as sink:
        assert send(*TO, "--data", "message.eml", port=sink.port, cwd=tmp_path).returncode == FINE
        done = send(*TO, "--data", "-", port=sink.port, data=content)
        assert done.returncode == FINE
        assert send(*TO, "--data", "-", port=sink.port, data=b"line\n" * 80).returncode == FINE
        contents = [message.content for message in sink.running.messages]
    assert contents == [expected, expected, b"line\r\n" * 80]


def test_long_content_is_not_shown_whole():
    with RunningSink() as sink:
        done = send(*TO, "--data", "-", port=sink.port, data=b"line\n" * 80)
    assert said(done).count(" -> line") == 50
    assert "=== 30 more lines, 480 octets in all" in said(done)


@pytest.mark.parametrize(
    ("fault", "code", "end"),
    [
        ("greeting=554 5.7.1 Go away", FAILED, "refused at greeting: 554 5.7.1 Go away"),
        ("greeting=421 4.3.2 Later", TEMPORARY, "refused at greeting: 421 4.3.2 Later"),
        ("ehlo=550 5.5.0 No", FAILED, "refused at ehlo: 550 5.5.0 No"),
        ("mail=451 4.3.0 Later", TEMPORARY, "refused at mail: 451 4.3.0 Later"),
        ("mail=421 4.3.2 Bye", TEMPORARY, "refused at mail: 421 4.3.2 Bye"),
        ("rcpt=550 5.1.1 Who?", FAILED, "refused at rcpt: 550 5.1.1 Who?"),
        ("rcpt=450 4.2.0 Later", TEMPORARY, "refused at rcpt: 450 4.2.0 Later"),
        ("rcpt=421 4.3.2 Bye", TEMPORARY, "refused at rcpt: 421 4.3.2 Bye"),
        ("data=554 5.3.0 No", FAILED, "refused at data: 554 5.3.0 No"),
        ("dot=552 5.3.4 Too large", FAILED, "refused at content: 552 5.3.4 Too large"),
        ("dot=452 4.3.1 Full", TEMPORARY, "refused at content: 452 4.3.1 Full"),
        ("connect=close", TEMPORARY, "the server hung up before it greeted"),
        ("rcpt=close", TEMPORARY, "the server hung up instead of answering (rcpt)"),
        ("dot=close", TEMPORARY, "the server hung up instead of answering (content)"),
        ("mail=hang", TEMPORARY, "the server gave no answer within 0.5 s"),
        ("dot=hang", TEMPORARY, "the server gave no answer within 0.5 s"),
        ("mail=354 What", FAILED, "the server broke the protocol: a reply to MAIL that makes no sense: 354 What"),
        ("quit=hang", FINE, "accepted: 250 2.0.0 Kept as message 1"),
        ("quit=close", FINE, "accepted: 250 2.0.0 Kept as message 1"),
    ],
)
def test_every_end_has_its_exit_code(fault, code, end):
    with RunningSink(fault) as sink:
        done = send(*TO, "--timeout", "0.5", port=sink.port)
    assert (verdict(done), done.returncode) == (end, code)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("kind", "line", "end"),
    [
        ("binary", "<-  \\x00\\xff\\xfe\\x16", "this is no reply"),
        ("mismatch", "<-  550 and the last says no", "a reply changes its code from 250 to 550"),
        ("endless", "<-  xxxxxxxxxx", "a line of the reply is endless"),
    ],
)
def test_garbage_is_shown_as_it_came(kind, line, end):
    with RunningSink(f"mail=garbage {kind}") as sink:
        done = send(*TO, port=sink.port)
    assert done.returncode == FAILED
    assert end in verdict(done)
    assert any(shown.startswith(line) for shown in said(done)), done.stdout


def test_one_recipient_of_several_is_refused():
    with RunningSink("rcpt=550 5.1.1 Who? to:amy@*", "rcpt=450 4.2.0 Later to:kim@*") as sink:
        both = send(*TO, "--to", "amy@example.net", "--to", "kim@example.net", port=sink.port)
        later = send(*TO, "--to", "kim@example.net", port=sink.port)
    assert both.returncode == FAILED
    assert verdict(both) == "accepted for 1 of 3 recipients: 250 2.0.0 Kept as message 1; but refused: 550 5.1.1 Who?"
    assert later.returncode == TEMPORARY


def test_a_server_that_knows_helo_only():
    with RunningSink("ehlo=502 5.5.1 What? first:1") as sink:
        done = send(*TO, "--body", "x", port=sink.port)
    assert done.returncode == FINE
    assert sum(line.startswith(" -> HELO ") for line in said(done)) == 1
    assert any(line.startswith(" -> MAIL FROM:") and "SIZE" not in line for line in said(done))


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "starttls"])
def test_quitting_early(phase):
    with RunningSink() as sink:
        done = send(*TO, "--quit-after", phase, port=sink.port)
    verbs = [line[4:8] for line in said(done) if line.startswith(" -> ")]
    assert (
        verbs
        == {
            "greeting": ["QUIT"],
            "ehlo": ["EHLO", "QUIT"],
            "auth": ["EHLO", "QUIT"],
            "mail": ["EHLO", "MAIL", "QUIT"],
            "rcpt": ["EHLO", "MAIL", "RCPT", "QUIT"],
        }[phase]
    )
    assert (done.returncode, verdict(done)) == (FINE, f"ended after {phase}, as asked")


def test_quitting_early_with_a_recipient_refused():
    with RunningSink("rcpt=550 5.1.1 Who?") as sink:
        assert send(*TO, "--quit-after", "rcpt", port=sink.port).returncode == FAILED


def test_nobody_listens_there():
    port = free_port()
    done = send(*TO, port=port)
    assert (done.returncode, verdict(done)) == (UNREACHABLE, f"127.0.0.1:{port} cannot be reached: Connection refused")


def test_a_name_without_an_address():
    done = send(*TO, port=25, host="nowhere.invalid")
    assert done.returncode == UNREACHABLE
    assert "nowhere.invalid:25 cannot be reached: nowhere.invalid has no address" in verdict(done)


# -- security


@pytest.fixture
def secured(certificates):
    return ServerTls(str(certificates.certificate), str(certificates.key))


def test_starttls_is_taken_when_offered_and_nothing_is_verified(secured):
    with RunningSink(tls=secured) as sink:
        done = send(*TO, port=sink.port)
        [message] = sink.running.messages
    assert done.returncode == FINE
    assert message.tls is not None
    assert any(re.fullmatch(r"=== TLS: TLSv1\.\d \S+, certificate not verified", line) for line in said(done))


@pytest.mark.parametrize("implicit", [False, True])
def test_the_certificate_is_verified_when_tls_is_demanded(secured, certificates, implicit):
    mode = ("--tls", "implicit" if implicit else "starttls")
    with RunningSink(tls=secured, implicit_tls=implicit) as sink:
        trusting = send(*TO, *mode, "--ca-file", str(certificates.ca_file), port=sink.port, host="localhost")
        strict = send(*TO, *mode, port=sink.port, host="localhost")
        careless = send(*TO, *mode, "--no-verify", port=sink.port, host="localhost")
        missing = send(*TO, *mode, "--ca-file", "/none", port=sink.port, host="localhost")
        kept = len(sink.running.messages)
    assert [done.returncode for done in (trusting, strict, careless, missing)] == [FINE, FAILED, FINE, FAILED]
    assert ", certificate verified" in trusting.stdout.decode()
    assert verdict(strict).startswith("TLS failed: unable to get local issuer certificate")
    assert verdict(missing).startswith("TLS failed: /none: ")
    assert kept == 2


def test_tls_that_is_demanded_and_not_offered():
    with RunningSink() as sink:
        done = send(*TO, "--tls", "starttls", port=sink.port)
    assert (done.returncode, "does not offer STARTTLS" in verdict(done)) == (FAILED, True)


def test_a_refused_starttls(secured):
    with RunningSink("starttls=454 4.7.0 Not now", tls=secured) as sink:
        assert send(*TO, port=sink.port).returncode == FINE
        assert send(*TO, "--tls", "starttls", port=sink.port).returncode == TEMPORARY
        assert sink.running.messages[0].tls is None


def test_a_password_from_the_environment_or_a_file_is_never_shown(tmp_path):
    (tmp_path / "password").write_text("sécret\n", "utf-8")
    with RunningSink(accounts={"me": "sécret"}) as sink:
        first = send(*TO, "--auth", "me", port=sink.port, env={"SMTP_PASSWORD": "sécret"})
        second = send(*TO, "--auth", "me", "--password-file", "password", port=sink.port, cwd=tmp_path)
        wrong = send(*TO, "--auth", "me", "--json", port=sink.port, env={"SMTP_PASSWORD": "other"})
        assert [message.username for message in sink.running.messages] == ["me", "me"]
    assert [done.returncode for done in (first, second, wrong)] == [FINE, FINE, FAILED]
    assert " -> AUTH PLAIN (not shown)" in said(first)
    for done in (first, second, wrong):
        for secret in ("sécret", "other", "AG1lAH"):
            assert secret not in done.stdout.decode()


def test_login_is_used_where_plain_is_not_offered():
    """A scripted server, because ours offers both."""
    heard = []

    def serve(listening):
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as lines:
            for answer in (
                b"220 x",
                b"250-x\r\n250 AUTH LOGIN",
                b"334 VXNlcm5hbWU6",
                b"334 UGFzc3dvcmQ6",
                b"235 ok",
                b"550 enough",
                b"221 bye",
            ):
                connection.sendall(answer + b"\r\n")
                heard.append(lines.readline())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=[listening])
        server.start()
        done = send(*TO, "--auth", "me", port=listening.getsockname()[1], env={"SMTP_PASSWORD": "secret"})
        server.join(20)
    assert heard[1:4] == [b"AUTH LOGIN\r\n", b"bWU=\r\n", b"c2VjcmV0\r\n"]
    assert said(done).count(" -> (not shown)") == 2
    assert (done.returncode, verdict(done)) == (FAILED, "refused at mail: 550 enough")


# -- the rest


def test_json():
    with RunningSink("rcpt=550 5.1.1 Who? to:amy@*") as sink:
        done = send(*TO, "--to", "amy@example.net", "--json", port=sink.port)
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode == FAILED
    assert found["summary"].startswith("accepted for 1 of 2 recipients")
    assert found["accepted_recipients"] == ["bob@example.net"]
    assert found["tls"] is None
    phases = ["greeting", "ehlo", "mail", "rcpt", "rcpt", "data", "content", "quit"]
    assert [reply["phase"] for reply in found["replies"]] == phases
    refusal = found["replies"][4]
    assert (refusal["code"], refusal["enhanced"], refusal["text"]) == (550, "5.1.1", "Who?")
    assert ("server", "550 5.1.1 Who?") in [(line["who"], line["text"]) for line in found["transcript"]]


def test_the_first_listener_of_the_configuration(tmp_path):
    with RunningSink() as sink:
        (tmp_path / "waypost.yaml").write_text(
            f"""
listeners: [{{address: "0.0.0.0:{sink.port}", mode: relay, trusted_networks: [127.0.0.0/8]}}]
upstreams: {{x: {{address: "mail.example.com:25"}}}}
routes: {{all: {{primary: x}}}}
"""
        )
        done = send(*TO, cwd=tmp_path)
        assert done.returncode == FINE, (done.stdout, done.stderr)
        assert len(sink.running.messages) == 1


@pytest.mark.parametrize(
    ("options", "end"),
    [
        (TO, "there is no configuration whose first listener could be used; name a --server HOST:PORT"),
        (("--server", "25", *TO), "--server takes HOST:PORT, such as 127.0.0.1:2525 or [::1]:25, not '25'"),
        (("--server", "a:0", *TO), "--server takes HOST:PORT"),
        (("--server", "a:25", "--to", "bob"), "'bob' is not an address"),
        (("--server", "a:25", "--from", "a@b c", *TO), "'a@b c' is not an address"),
        (("--server", "a:25", "--header", "nonsense", *TO), "'nonsense' is no header field"),
        (("--server", "a:25", "--subject", "a\nb", *TO), "has a line break in it"),
        (("--server", "a:25", "--data", "/none", *TO), "--data /none: No such file or directory"),
        (("--server", "a:25", "--data", "-", "--body", "x", *TO), "goes without --header and --body"),
        (("--server", "a:25", "--auth", "me", *TO), "--auth needs a password: --password-file, $SMTP_PASSWORD"),
        (("--server", "a:25", "--auth", "me", "--password-file", "/none", *TO), "--password-file /none: No such file"),
        (("--server", "a:25", "--mechanism", "PLAIN", *TO), "--mechanism means nothing without --auth USER"),
        (("--server", "a:25", "--auth", "me", "--mechanism", "NTLM", *TO), "'NTLM' is none of SCRAM-SHA-256-PLUS"),
        (("--server", "a:25", "--ca-file", "x", *TO), "--ca-file means nothing with --tls opportunistic"),
        (("--server", "a:25", "--timeout", "soon", *TO), "'soon' is not a number of seconds"),
        (("--server", "a:25", "--timeout", "nan", *TO), "'nan' is not a number of seconds"),
    ],
)
def test_mistakes_are_named(tmp_path, options, end):
    done = send(*options, cwd=tmp_path)
    assert (done.returncode, end in done.stderr.decode()) == (USAGE, True), done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("field", ["X: a\r\nRCPT TO:<x@y>", "X y: z", ": x", "X: a\0b"])
def test_a_header_field_cannot_break_out(field):
    with pytest.raises(FieldError):
        compose("a@b.example", ["c@d.example"], "s", "b", [field], "id@x", 0)


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b""),
        (b".", b"..\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n"),
        (b"a\r\n\r.\n", b"a\r\n\r\n..\r\n"),
        (b"a\r\n", b"a\r\n"),
    ],
)
def test_wire_form(content, wire):
    assert wire_form(content) == wire


def test_an_8_bit_message_to_a_server_that_knows_no_8bitmime():
    with RunningSink(options=ServerOptions("sink.example", eightbitmime=False)) as sink:
        assert send(*TO, "--body", "ü", port=sink.port).returncode == FINE
        assert sink.running.messages[0].parameters[1:] == ()


def test_lmtp_shows_an_answer_for_each_recipient():
    options = ServerOptions("sink.example", lmtp=True)
    with RunningSink("verdict=452 4.2.2 Full to:amy@*", options=options) as sink:
        done = send(*TO, "--to", "amy@example.org", "--lmtp", port=sink.port)
        [message] = sink.running.messages
        refused = send("--to", "amy@example.org", "--lmtp", "--json", port=sink.port)
    assert message.recipients == ("bob@example.net",)
    assert done.returncode == TEMPORARY
    lines = said(done)
    assert any(line.startswith(" -> LHLO ") for line in lines)
    assert "<-  250 2.0.0 Kept for bob@example.net" in lines
    assert "<-  452 4.2.2 Full" in lines
    told = "accepted for 1 of 2 recipients: 250 2.0.0 Kept for bob@example.net; but refused: 452 4.2.2 Full"
    assert verdict(done) == told
    assert refused.returncode == TEMPORARY
    assert json.loads(refused.stdout)["accepted_recipients"] == []


def test_a_unix_socket(tmp_path):
    path = tmp_path / "lmtp"
    with RunningSink(addresses=((str(path), 0),), options=ServerOptions("sink.example", lmtp=True)) as sink:
        done = send(*TO, "--lmtp", "--server", f"unix:{path}")
        assert len(sink.running.messages) == 1
    assert done.returncode == FINE
    assert f"=== connected to unix:{path}" in said(done)
    assert not path.exists()
    gone = send(*TO, "--server", f"unix:{path}")
    assert gone.returncode == UNREACHABLE
