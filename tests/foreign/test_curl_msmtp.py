"""curl and msmtp as clients: how scripts and servers without a mail server send."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from rig.certificates import Certificates
from rig.programs import run, transcript
from rig.settings import PASSWORD, USERNAME, submitting
from rig.sink import StoringSink
from rig.waypost import WaypostProcess

CONTENT = (
    b"From: a@example.com\r\nTo: b@example.org\r\nSubject: exact\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n\r\n.\r\n..\r\nbody\r\n"
)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """The message as a file."""
    path = tmp_path / "message.eml"
    path.write_bytes(CONTENT)
    return path


CURL = "curl --silent --show-error --max-time 30 --mail-from a@example.com --mail-rcpt b@example.org"


@pytest.mark.usefixtures("relay")
def test_curl_uploads(port: int, sink: StoringSink, upload: Path) -> None:
    url = f"smtp://127.0.0.1:{port}/client.example"
    result = run(f"{CURL} {url} --mail-rcpt c@example.org --upload-file", upload)
    assert result.returncode == 0, transcript(result)
    [message] = sink.messages
    assert message.untraced == CONTENT
    assert (message.reverse_path, message.recipients) == ("a@example.com", ("b@example.org", "c@example.org"))
    assert b"from client.example " in message.trace


@pytest.mark.usefixtures("submission")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_curl_authenticates_inside_starttls(
    port: int, sink: StoringSink, upload: Path, certificates: Certificates, mechanism: str
) -> None:
    login = f"--ssl-reqd --user {USERNAME}:{PASSWORD} --login-options AUTH={mechanism}"
    result = run(f"{CURL} smtp://localhost:{port} {login} --cacert", certificates.ca_file, "--upload-file", upload)
    assert result.returncode == 0, transcript(result)
    [message] = sink.messages
    assert message.untraced == CONTENT
    assert b"with ESMTPSA" in message.trace


def test_curl_over_implicit_tls(
    tmp_path: Path, port: int, sink: StoringSink, upload: Path, certificates: Certificates
) -> None:
    settings = submitting(port, sink.address, certificates, tls="implicit")
    with WaypostProcess(tmp_path / "waypost", settings, tls_ports=[port]):
        login = f"--user {USERNAME}:{PASSWORD}"
        result = run(f"{CURL} smtps://localhost:{port} {login} --cacert", certificates.ca_file, "--upload-file", upload)
        assert result.returncode == 0, transcript(result)
    assert [message.untraced for message in sink.messages] == [CONTENT]


@pytest.mark.usefixtures("submission")
def test_curl_with_a_wrong_password_sends_nothing(
    port: int, sink: StoringSink, upload: Path, certificates: Certificates
) -> None:
    login = f"--ssl-reqd --user {USERNAME}:wrong"
    result = run(f"{CURL} smtp://localhost:{port} {login} --cacert", certificates.ca_file, "--upload-file", upload)
    assert result.returncode == 67, transcript(result)  # CURLE_LOGIN_DENIED
    assert sink.messages == []


class Msmtp:
    """msmtp, submitting with TLS and AUTH."""

    def __init__(
        self, port: int, certificates: Certificates, folder: Path, *, auth: str = "on", starttls: bool = True
    ) -> None:
        self._port = port
        self._how = f"--auth={auth} --tls=on --tls-starttls={'on' if starttls else 'off'}"
        self._certificates = certificates
        self._secret = folder / "password"

    def send(self, password: str, *recipients: str) -> CompletedProcess[bytes]:
        """Sends the message, which msmtp expects with the line ends of this system."""
        self._secret.write_text(password)
        return run(
            f"msmtp --host=localhost --port={self._port} --timeout=30 --from=a@example.com --user={USERNAME}"
            f" {self._how}",
            f"--tls-trust-file={self._certificates.ca_file}",
            f"--passwordeval=cat '{self._secret}'",
            *recipients,
            stdin=CONTENT.replace(b"\r\n", b"\n"),
        )


@pytest.fixture
def msmtp(submission: WaypostProcess, port: int, certificates: Certificates, tmp_path: Path) -> Msmtp:
    """msmtp in front of the submission listener."""
    return Msmtp(port, certificates, tmp_path)


def test_msmtp_submits(msmtp: Msmtp, sink: StoringSink) -> None:
    result = msmtp.send(PASSWORD, "b@example.org", "c@example.org")
    assert result.returncode == 0, transcript(result)
    [message] = sink.messages
    assert message.untraced == CONTENT
    assert message.recipients == ("b@example.org", "c@example.org")


def test_msmtp_is_told_that_the_password_is_wrong(msmtp: Msmtp, sink: StoringSink) -> None:
    result = msmtp.send("wrong", "b@example.org")
    assert result.returncode == 77, transcript(result)  # EX_NOPERM
    assert b"535" in result.stderr
    assert sink.messages == []


def test_msmtp_is_told_what_the_primary_said(msmtp: Msmtp, sink: StoringSink) -> None:
    sink.recipient_replies["nobody@example.org"] = "550 5.1.1 no such user here"
    result = msmtp.send(PASSWORD, "nobody@example.org")
    assert result.returncode != 0, transcript(result)
    assert b"550 5.1.1 no such user here" in result.stderr
    assert sink.messages == []


@pytest.mark.parametrize("auth", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_msmtp_by_each_mechanism_and_either_way_of_tls(
    auth: str, tls: str, tmp_path: Path, port: int, sink: StoringSink, certificates: Certificates
) -> None:
    settings = submitting(port, sink.address, certificates, tls=tls)
    ports = {"tls_ports": [port]} if tls == "implicit" else {"ports": [port]}
    with WaypostProcess(tmp_path / "waypost", settings, **ports):
        by = Msmtp(port, certificates, tmp_path, auth=auth, starttls=tls == "starttls")
        result = by.send(PASSWORD, "b@example.org")
        assert result.returncode == 0, transcript(result)
    assert [message.untraced for message in sink.messages] == [CONTENT]
