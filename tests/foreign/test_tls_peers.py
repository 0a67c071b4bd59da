"""TLS with real peers: OpenSSL's client with old versions and names, and a Postfix that wants a certificate."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from rig.certificates import Certificates
from rig.client import RawClient
from rig.ports import free_port
from rig.postfix import PostfixInstance
from rig.programs import run, transcript
from rig.settings import PASSWORD, USERNAME, submitting
from rig.sink import StoringSink
from rig.waypost import WaypostProcess, waypost

Start = Callable[[dict[str, Any]], WaypostProcess]
CONTENT = b"From: ann@example.com\r\nSubject: x\r\n\r\nHello\r\n"


def s_client(port: int, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """One session inside STARTTLS, by OpenSSL's own client."""
    line = f"openssl s_client -connect localhost:{port} -starttls smtp -verify_return_error -quiet -no_ign_eof"
    return run(line, *words, stdin=b"QUIT\r\n")


OLD = ("-cipher", "DEFAULT@SECLEVEL=0")


@pytest.mark.parametrize(("version", "spoken"), [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1"), ("-tls1_2", "TLSv1.2")])
def test_a_listener_for_old_devices(
    version: str,
    spoken: str,
    start: Start,
    port: int,
    certificates: Certificates,
    sink: StoringSink,
) -> None:
    settings = submitting(port, sink.address, certificates)
    other = free_port()
    [listener] = settings["listeners"]
    settings["listeners"] = [{**listener, "tls": {"minimum": "1.0"}}, {**listener, "address": f"127.0.0.1:{other}"}]
    process = start(settings)
    ca = ("-CAfile", certificates.ca_file, "-verify_hostname", "localhost")
    old = s_client(port, version, *OLD, *ca)
    assert old.returncode == 0, transcript(old)
    usual = s_client(other, version, *OLD, *ca)
    assert (usual.returncode == 0) is (version == "-tls1_2"), transcript(usual)
    assert f"OLD TLS: 127.0.0.1:{port} takes TLS 1.0" in process.output()
    assert f"OLD TLS: 127.0.0.1:{other}" not in process.output()
    swaks = run(
        f"swaks --server localhost:{port} --tls --tls-protocol {spoken.lower().replace('.', '_')} --tls-cipher",
        "DEFAULT:@SECLEVEL=0",
        *f"--auth PLAIN --auth-user {USERNAME} --auth-password {PASSWORD}".split(),
        *["--from", "a@example.com", "--to", "b@example.org"],
    )
    assert swaks.returncode == 0, transcript(swaks)
    [received] = process.wait_for_record("received")
    assert received["client_tls"].split(" ")[0] == spoken


def test_the_certificate_for_the_name_that_is_asked_for(
    start: Start, port: int, certificates: Certificates, sink: StoringSink, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("mail.example.org", "*.example.net")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "further.pem")
    issued.private_key_pem.write_to_path(tmp_path / "further.key")
    settings = submitting(port, sink.address, certificates)
    further = {"certificate": str(tmp_path / "further.pem"), "key": str(tmp_path / "further.key")}
    settings["tls"]["by_name"] = [further]
    start(settings)
    for name in ("mail.example.org", "smtp.example.net"):
        found = s_client(port, "-servername", name, "-CAfile", tmp_path / "ca.pem", "-verify_hostname", name)
        assert found.returncode == 0, transcript(found)
    for words in (("-servername", "localhost"), ("-noservername",)):
        found = s_client(port, *words, "-CAfile", certificates.ca_file, "-verify_hostname", "localhost")
        assert found.returncode == 0, transcript(found)


def test_a_postfix_that_wants_our_certificate(
    start: Start, port: int, certificates: Certificates, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("waypost.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    files = {
        "cert.pem": certificates.certificate.read_text(),
        "key.pem": certificates.key.read_text(),
        "clients.pem": authority.cert_pem.bytes().decode(),
    }
    main = {
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_cert_file": "$config_directory/cert.pem",
        "smtpd_tls_key_file": "$config_directory/key.pem",
        "smtpd_tls_CAfile": "$config_directory/clients.pem",
        "smtpd_tls_req_ccert": "yes",
        "smtpd_tls_loglevel": "1",
        "relay_domains": "example.org",
        "default_transport": "discard:",
        "relay_transport": "discard:",
        "smtpd_relay_restrictions": "permit_tls_all_clientcerts, reject",
        "smtpd_recipient_restrictions": "permit_tls_all_clientcerts, reject",
    }
    tls = {"mode": "starttls", "ca_file": str(certificates.ca_file)}
    shown = {**tls, "certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.pem")}
    with PostfixInstance(main, files=files) as postfix:
        settings = {
            "hostname": "waypost.example",
            "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay"}],
            "upstreams": {
                "none": {"address": f"localhost:{postfix.port}", "tls": tls},
                "shown": {"address": f"localhost:{postfix.port}", "tls": shown},
            },
            "pools": {"both": {"upstreams": ["none", "shown"]}},
            "routes": {"all": {"primary": "both", "acceptance": "pass"}},
            "log": {"format": "json"},
        }
        process = start(settings)
        with RawClient(port) as client:
            client.hello()
            answer = client.answer_to_message("ann@example.com", "bob@example.org", CONTENT)
            assert answer.code == 250, answer
        [attempt] = process.wait_for_record("attempted")
        assert attempt["upstream"] == "none", "without a certificate it serves nobody"
        [relayed] = process.wait_for_record("relayed")
        assert relayed["upstream"] == "shown"
        assert relayed["tls"].startswith("TLSv1.3 ")
        postfix.wait_for_log("Trusted TLS connection established")
        checked = waypost("check", "--online", "--config", str(process.folder / "waypost.yaml"))
        failed = [line.split()[1] for line in checked.stdout.split("\n") if "FAILED" in line]
        assert failed == ["none"], checked.stdout


@pytest.mark.parametrize(("authorize_as", "code"), [(None, 250), ("branch", 250), ("other", 451)])
def test_the_certificate_is_the_login(
    authorize_as: str | None,
    code: int,
    start: Start,
    port: int,
    certificates: Certificates,
    sink: StoringSink,
    tmp_path: Path,
) -> None:
    """EXTERNAL, from one Waypost to another that knows the certificate as an account's."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    ours = str(tmp_path / "branch.pem")
    authority.issue_cert("branch@example.com").private_key_and_cert_chain_pem.write_to_path(ours)
    head = submitting(port, sink.address, certificates)
    head["listeners"][0]["client_certificates"] = {"ca_file": str(tmp_path / "clients.pem")}
    head["accounts"] = {"branch": {"certificate": "branch@example.com"}}
    process = start(head)
    outside = free_port()
    auth = {"mechanism": "EXTERNAL", **({"authorize_as": authorize_as} if authorize_as else {})}
    tls = {"mode": "starttls", "ca_file": str(certificates.ca_file), "certificate": ours, "key": ours}
    branch = {
        "hostname": "branch.example",
        "listeners": [{"address": f"127.0.0.1:{outside}", "mode": "relay"}],
        "upstreams": {"head": {"address": f"localhost:{port}", "tls": tls, "auth": auth}},
        "routes": {"all": {"primary": "head", "acceptance": "pass"}},
    }
    with WaypostProcess(tmp_path / "branch", branch, ports=[outside]), RawClient(outside) as client:
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == code
    if code == 250:
        [received] = process.wait_for_record("received")
        assert received["account"] == "branch"
    assert len(sink.messages) == (code == 250)
