"""`waypost sink` as people start it: its options, its lines, its files and what it answers over HTTP."""

import json
import re
import signal
import smtplib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from rig.ports import free_port
from rig.waiting import wait_until

CONTENT = b"Subject: =?x?= <b>&amp;\r\n\r\n.dots\r\n\xe4\r\n"


class Program:
    """A running `waypost sink`."""

    def __init__(self, folder, *options):
        self._out = folder / "out"
        words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", *options]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "waypost", "sink", *words], stdout=out, stderr=out)
        found = wait_until(lambda: re.search(r"listening on \S+:(\d+)\nmessages at (http\S+)\n", self.said()), "ports")
        self.port, self.url = int(found[1]), found[2]

    def said(self):
        return self._out.read_text("utf-8")

    def send(self, *recipients, content=CONTENT):
        with smtplib.SMTP("127.0.0.1", self.port) as client:
            return client.sendmail("a@example.com", recipients or ["b@example.org"], content)

    def get(self, path, data=None, method=None):
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def refusal(self, path, data=None, method=None):
        with pytest.raises(urllib.error.HTTPError) as raised:
            self.get(path, data, method)
        with raised.value as answer:
            return answer.code, answer.read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(*options):
        started.append(Program(tmp_path, *options))
        return started[-1]

    yield begin
    for program in started:
        assert program.stop() == 0, program.said()
        assert "Traceback" not in program.said()


def test_messages_over_http(start):
    program = start()
    assert program.get("count") == b"0\n"
    program.send("b@example.org", "c@example.org")
    program.send()

    assert program.get("count") == b"2\n"
    first, second = json.loads(program.get("messages"))
    assert (first["id"], second["id"]) == (1, 2)
    assert first == json.loads(program.get("messages/1"))
    assert first["recipients"] == [
        {"address": "b@example.org", "parameters": []},
        {"address": "c@example.org", "parameters": []},
    ]
    assert (first["reverse_path"], first["size"], first["tls"]) == ("a@example.com", len(CONTENT), None)
    assert program.get("messages/2/content") == CONTENT
    assert program.refusal("messages/3") == (404, "There is no message 3, or not any more\n")
    assert program.refusal("messages/3/content")[0] == 404

    assert program.get("messages", method="DELETE") == b""
    assert program.get("messages") == b"[]"
    program.send()
    assert json.loads(program.get("messages"))[0]["id"] == 3


def test_the_page_lists_messages_and_runs_nothing_of_theirs(start):
    program = start()
    program.send(content=b"Subject: <script>alert(1)</script>\r\n\r\nx\r\n")

    page = program.get("").decode()
    assert "a@example.com" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    with urllib.request.urlopen(f"{program.url}messages/1/content", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_faults_are_replaced_at_run_time(start):
    program = start("--fault", "rcpt=550 5.1.1 Nobody to:x@*")
    assert program.get("faults") == b"rcpt=550 5.1.1 Nobody to:x@*\n"
    assert program.send("x@example.org", "b@example.org") == {"x@example.org": (550, b"5.1.1 Nobody")}

    two = b"mail=451 4.3.0 first:1\ndot=delay 0\n"
    assert program.get("faults", b"\n" + two.replace(b"\n", b" \n\n")) == two
    with pytest.raises(smtplib.SMTPSenderRefused):
        program.send()
    assert program.send("x@example.org") == {}

    code, said = program.refusal("faults", b"mail=451\ndot=clsoe")
    assert (code, "did you mean close?" in said) == (400, True)
    assert program.get("faults") == two

    assert program.get("faults", b'["data=450"]') == b"data=450\n"
    for wrong in (b"[1]", b"[", b"\xff", b"x" * 70_000):
        assert program.refusal("faults", wrong)[0] in (400, 413)
    assert program.get("faults", b"") == b""
    assert program.send() == {}


def test_one_line_for_each_message(start):
    program = start()
    program.send("b@example.org", "c@example.org")

    assert re.search(
        r"^\d\d:\d\d:\d\d\.\d{3} #1 <a@example.com> to <b@example.org> and 1 more \(37 B\)  =\?x\?= <b>&amp;$",
        program.said(),
        re.MULTILINE,
    )
    assert "MAIL" not in program.said()
    assert "\x1b" not in program.said()


def test_the_content_on_request(start):
    program = start("--content")
    program.send(content=b"Subject: x\r\n\r\n.dots and \x1b[1m bold \xff\r\nno end")

    assert program.said().endswith("(45 B)  x\n    Subject: x\n\n    .dots and \\x1b[1m bold \\xff\n    no end\n"), (
        program.said()
    )


def test_the_dialogue_on_request(start):
    program = start("--verbose", "--auth", "me:secret", "--name", "other.example")
    with smtplib.SMTP("127.0.0.1", program.port) as client:
        client.login("me", "secret")
        client.sendmail("a@example.com", ["b@example.org"], b"Subject: x\r\n\r\nprivate\r\n")
    said = wait_until(lambda: text if "ended: closed" in (text := program.said()) else "", "the end of the session")

    assert "[1] <-- 220 other.example ESMTP" in said
    assert "[1] --> AUTH PLAIN (a response)" in said
    assert "[1] --> rcpt TO:<b@example.org>" in said
    assert "private" not in said
    assert "c2VjcmV0" not in said


def test_messages_as_files(start, tmp_path):
    program = start("--directory", str(tmp_path / "mail" / "here"))
    program.send()
    program.send()
    program.stop()
    again = Program(tmp_path, "--directory", str(tmp_path / "mail" / "here"))
    again.send()
    assert again.stop() == 0

    written = sorted(path.name for path in (tmp_path / "mail" / "here").iterdir())
    assert written == [f"00000{number}.{kind}" for number in (1, 2, 3) for kind in ("eml", "json")]
    assert (tmp_path / "mail" / "here" / "000002.eml").read_bytes() == CONTENT
    assert json.loads((tmp_path / "mail" / "here" / "000001.json").read_text())["subject"] == "=?x?= <b>&amp;"


def test_what_is_not_offered(start):
    program = start(
        "--no-pipelining", "--no-8bitmime", "--no-smtputf8", "--no-chunking", "--no-dsn", "--no-prdr", "--size", "10K"
    )
    with smtplib.SMTP("127.0.0.1", program.port) as client:
        client.ehlo()
        assert set(client.esmtp_features) == {"size", "enhancedstatuscodes"}
        assert client.esmtp_features["size"] == "10240"
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.com", ["b@example.org"], b"x" * 10_300)


def test_tls(start, certificates):
    program = start("--tls", "starttls", "--certificate", str(certificates.certificate), "--key", str(certificates.key))
    with smtplib.SMTP("localhost", program.port) as client:
        client.starttls(context=certificates.client_context())
        client.sendmail("a@example.com", ["b@example.org"], CONTENT)
    assert json.loads(program.get("messages"))[0]["tls"].startswith("TLSv1.")


def run(*options):
    words = [sys.executable, "-m", "waypost", "sink", *options]
    return subprocess.run(words, capture_output=True, timeout=30, text=True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--fault", "dot=clsoe"], 2, "'dot=clsoe': there is no action 'clsoe'; did you mean close?"),
        (["--listen", "25"], 2, "--listen takes HOST:PORT, such as 127.0.0.1:2525 or [::1]:0, not '25'"),
        (["--listen", "localhost:70000"], 2, "--listen takes HOST:PORT"),
        (["--http", "8080"], 2, "--http takes HOST:PORT"),
        (["--tls", "starttls"], 2, "--tls, --certificate and --key belong together"),
        (["--key", "x"], 2, "belong together"),
        (["--auth", "me"], 2, "--auth takes USER:PASSWORD"),
        (["--name", "a b"], 2, "--name 'a b' cannot be a host name"),
        (["--keep", "0"], 2, "'0' is not a whole number from 1 on"),
        (["--size", "\u0661M"], 2, "is not a whole number"),
        (["--tls", "implicit", "--certificate", "/none", "--key", "/none"], 1, "/none with /none: "),
        (["--directory", "/dev/null/x"], 1, "/dev/null/x: Not a directory"),
    ],
)
def test_mistakes_are_named(options, code, said):
    done = run("--listen", "127.0.0.1:0", *options)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(start):
    program = start()
    done = run("--listen", f"127.0.0.1:{program.port}")
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    done = run("--listen", f"127.0.0.1:{free_port()}", "--http", program.url.removeprefix("http://").strip("/"))
    assert (done.returncode, "cannot listen" in done.stderr) == (1, True)


def test_nobody_reads_what_it_says():
    program = [sys.executable, "-m", "waypost", "sink", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        port = int(process.stdout.readline().rpartition(b":")[2])
        process.stdout.close()
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@example.com", ["b@example.org"], CONTENT)
            assert process.wait(20) == 0
        assert process.stderr.read() == b""
