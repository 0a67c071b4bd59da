"""Every way to log in, by programs that are not ours: swaks, curl and msmtp; files that doveadm and openssl wrote."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import trustme

from rig.certificates import Certificates
from rig.programs import lacking, run, transcript
from rig.settings import PASSWORD, USERNAME, submitting
from rig.sink import StoringSink
from rig.waypost import WaypostProcess
from waypost.net.password_hash import make

MESSAGE = b"From: a@example.com\nTo: b@example.org\nSubject: hello\n\nbody\n"
Start = Callable[[dict[str, Any]], WaypostProcess]


def made(*words: str) -> str:
    """What a program prints, as one line."""
    result = run(*words)
    assert result.returncode == 0, transcript(result)
    return result.stdout.decode().strip()


def hashed(scheme: str) -> str:
    """By Dovecot's own program."""
    return made(f"doveadm -o stats_writer_socket_path= pw -s {scheme} -p {PASSWORD}")


class Programs:
    """Clients of the submission listener, all with the same account."""

    def __init__(self, port: int, certificates: Certificates, folder: Path) -> None:
        self._port = port
        self._ca_file = certificates.ca_file
        self._folder = folder

    def swaks(self, mechanism: str, password: str = PASSWORD) -> CompletedProcess[bytes]:
        return run(
            f"swaks --server localhost:{self._port} --tls --from a@example.com --to b@example.org"
            f" --auth {mechanism} --auth-user {USERNAME} --auth-password {password}"
        )

    def curl(self, *more: object) -> CompletedProcess[bytes]:
        path = self._folder / "message.eml"
        path.write_bytes(MESSAGE.replace(b"\n", b"\r\n"))
        return run(
            f"curl --silent --show-error --max-time 30 --mail-from a@example.com --mail-rcpt b@example.org --ssl-reqd"
            f" smtp://localhost:{self._port} --cacert {self._ca_file} --upload-file {path}",
            *more,
        )

    def msmtp(self, auth: str, *more: str, password: str = PASSWORD) -> CompletedProcess[bytes]:
        secret = self._folder / "password"
        secret.write_text(password)
        return run(
            f"msmtp --host=localhost --port={self._port} --timeout=30 --from=a@example.com --auth={auth}"
            f" --user={USERNAME} --tls=on --tls-starttls=on",
            f"--tls-trust-file={self._ca_file}",
            f"--passwordeval=cat '{secret}'",
            *more,
            "b@example.org",
            stdin=MESSAGE,
        )


@pytest.fixture
def programs(port: int, certificates: Certificates, tmp_path: Path) -> Programs:
    """The clients."""
    return Programs(port, certificates, tmp_path)


@pytest.fixture
def settings(port: int, sink: StoringSink, certificates: Certificates) -> dict[str, Any]:
    """A submission listener without accounts."""
    found = submitting(port, sink.address, certificates)
    del found["accounts"]
    return found


SCHEMES = [
    "ARGON2ID",
    "BLF-CRYPT",
    "SHA512-CRYPT",
    "SHA256-CRYPT",
    "SSHA",
    "SSHA256",
    "SSHA512",
    "SCRAM-SHA-256",
    "PLAIN",
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_passwd_file_of_dovecot(
    scheme: str, start: Start, settings: dict[str, Any], programs: Programs, sink: StoringSink, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text(f"{USERNAME}:{hashed(scheme)}:1000:1000::/home/test::\n")
    process = start({**settings, "accounts_file": {"path": str(users), "format": "dovecot"}})
    for mechanism in ("PLAIN", "LOGIN"):
        result = programs.swaks(mechanism)
        assert result.returncode == 0, transcript(result)
    assert programs.swaks("PLAIN", "wrong").returncode == 28  # swaks: authentication failed
    assert len(sink.messages) == 2
    assert {record["account"] for record in process.wait_for_record("received", 2)} == {USERNAME}
    assert ("weak schemes" in process.output()) is scheme.startswith(("SSHA", "PLAIN"))


def test_every_mechanism_of_swaks(
    start: Start, settings: dict[str, Any], programs: Programs, sink: StoringSink
) -> None:
    """CRAM needs passwords as they are, so it is not offered, though here they could be had.

    swaks knows DIGEST-MD5 and NTLM too, with Perl modules that Debian's package leaves out.
    """
    process = start({**settings, "accounts": {USERNAME: {"password": PASSWORD}}})
    for asked, used in (("PLAIN", b"PLAIN"), ("LOGIN", b"LOGIN"), ("ANY", b""), ("CRAM-MD5,LOGIN", b"LOGIN")):
        result = programs.swaks(asked)
        assert result.returncode == 0, transcript(result)
        assert b"~> AUTH " + used in result.stdout
    for asked in ("CRAM-MD5", "CRAM-SHA1"):
        result = programs.swaks(asked)
        assert result.returncode == 28, transcript(result)  # swaks: authentication failed
        assert b"~> AUTH" not in result.stdout, "it is not even offered"
    assert len(sink.messages) == 4
    for received in process.wait_for_record("received", 4):
        assert (received["account"], received["client_tls"].split(".")[0]) == (USERNAME, "TLSv1")


@pytest.mark.parametrize("option", ["-apr1", "-6", "-5"])
def test_an_htpasswd_file(
    option: str, start: Start, settings: dict[str, Any], programs: Programs, sink: StoringSink, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text(f"# who\n{USERNAME}:{made(f'openssl passwd {option} {PASSWORD}')}\n")
    start({**settings, "accounts_file": {"path": str(users), "format": "htpasswd"}})
    result = programs.swaks("PLAIN")
    assert result.returncode == 0, transcript(result)
    assert len(sink.messages) == 1


def test_a_line_that_is_corrected_while_it_runs(
    start: Start, settings: dict[str, Any], programs: Programs, sink: StoringSink, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text(f"other:{hashed('SSHA256')}\n{USERNAME}:{{SSHA256}}cut\n")
    process = start({**settings, "accounts_file": {"path": str(users), "format": "dovecot"}})
    assert f"{users}:2: account '{USERNAME}' is refused: the hash is not base64" in process.output()
    assert programs.swaks("PLAIN").returncode == 28
    users.write_text(f"{USERNAME}:{hashed('SSHA256')}\n")
    for _ in range(20):
        if programs.swaks("PLAIN").returncode == 0:
            break
    assert len(sink.messages) == 1


@pytest.mark.parametrize("stored", ["plain", "verifier"])
def test_msmtp_with_scram(
    stored: str, start: Start, settings: dict[str, Any], programs: Programs, sink: StoringSink
) -> None:
    if b"scram-sha-256" not in run("msmtp --version").stdout:
        lacking("msmtp was built without SCRAM-SHA-256")
    password = PASSWORD if stored == "plain" else make("scram-sha-256", PASSWORD)
    process = start({**settings, "accounts": {USERNAME: {"password": password}}})
    result = programs.msmtp("scram-sha-256")
    assert result.returncode == 0, transcript(result)
    assert len(sink.messages) == 1
    assert process.wait_for_record("received")[0]["account"] == USERNAME
    result = programs.msmtp("scram-sha-256", password="wrong")
    assert result.returncode == 77, transcript(result)  # EX_NOPERM
    assert programs.msmtp("on").returncode == 0, "it takes the best that is offered"


@pytest.fixture
def client_certificate(tmp_path: Path) -> tuple[Path, Path, Path]:
    """An authority for clients, and a certificate of it with its key."""
    authority = trustme.CA()
    issued = authority.issue_cert("printer@example.com")
    files = tmp_path / "clients.pem", tmp_path / "client.pem", tmp_path / "client-key.pem"
    authority.cert_pem.write_to_path(files[0])
    issued.cert_chain_pems[0].write_to_path(files[1])
    issued.private_key_pem.write_to_path(files[2])
    return files


@pytest.mark.parametrize("required", [False, True])
def test_a_certificate_instead_of_a_password(
    required: bool,
    start: Start,
    settings: dict[str, Any],
    programs: Programs,
    sink: StoringSink,
    client_certificate: tuple[Path, Path, Path],
) -> None:
    ca_file, certificate, key = client_certificate
    shown = made(f"openssl x509 -noout -fingerprint -sha256 -in {certificate}").partition("=")[2]
    settings["listeners"][0]["client_certificates"] = {"ca_file": str(ca_file), "required": required}
    process = start({**settings, "accounts": {USERNAME: {"certificate": shown}}})
    result = programs.curl("--cert", certificate, "--key", key)
    assert result.returncode == 0, transcript(result)
    result = programs.msmtp("external", f"--tls-cert-file={certificate}", f"--tls-key-file={key}")
    assert result.returncode == 0, transcript(result)
    assert programs.curl().returncode != 0, "without one"
    assert len(sink.messages) == 2
    assert {record["account"] for record in process.wait_for_record("received", 2)} == {USERNAME}
