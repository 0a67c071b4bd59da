"""Sessions inside TLS, on their way into it, and the ways that lead nowhere."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates, make_certificates
from rig.client import RawClient

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
MakePlace = Callable[..., Any]


def test_an_early_talker_is_refused(place: MakePlace) -> None:
    it = place()
    codes = set()
    for _ in range(5):
        client = RawClient(it.port)
        client.send(b"EHLO early.example\r\nMAIL FROM:<a@example.com>\r\n")
        codes.add(client.answer().code)
        client.close()
    # Whoever's words arrive with the connection is refused; words that come later cannot be told from an answer.
    assert codes <= {554, 220}


def test_text_behind_starttls_is_never_carried_out(place: MakePlace) -> None:
    it = place(tls=True)
    client = it.client()
    client.hello()
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
    client.expect(554)
    client.expect_end()


def test_starttls_forgets_what_was_said_in_the_clear(place: MakePlace, certificates: Certificates) -> None:
    it = place(tls=True)
    client = it.client()
    client.hello()
    client.command("STARTTLS", 220)
    client.start_tls(certificates.client_context())
    client.command("MAIL FROM:<ann@example.com>", 503)
    assert "STARTTLS" not in client.command("EHLO again.example", 250).text
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert b"with ESMTPS id" in it.sink.messages[0].trace
    assert b"\r\n (using TLSv1.3 TLS_" in it.sink.messages[0].trace


def test_implicit_tls(place: MakePlace, certificates: Certificates) -> None:
    it = place(tls=True, implicit_tls=True)
    client = it.client()
    client.start_tls(certificates.client_context())
    assert "STARTTLS" not in client.hello().text
    assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
    assert client.answer_to_message("ann@example.com", "bob@example.org", b"x" * 200_000 + b"\r\n").code == 250
    client.command("QUIT", 221)


def test_a_handshake_that_is_none_ends_the_session(place: MakePlace) -> None:
    it = place(tls=True, implicit_tls=True)
    it.client().send(b"EHLO plain.example\r\n")
    it.server.wait_for("tls_failed")
    it.server.wait_for("closed")


def test_a_renewed_certificate_is_used_by_the_next_session(
    place: MakePlace, certificates: Certificates, tmp_path: Path
) -> None:
    it = place(tls=True, implicit_tls=True)
    renewed = make_certificates(tmp_path)
    with RawClient(it.port) as before:
        before.start_tls(certificates.client_context())
        before.hello()
        old = certificates.certificate.read_bytes(), certificates.key.read_bytes()
        try:
            certificates.certificate.write_bytes(b"half a certif")
            with RawClient(it.port) as during:
                during.start_tls(certificates.client_context())
                during.hello()
            certificates.certificate.write_bytes(renewed.certificate.read_bytes())
            certificates.key.write_bytes(renewed.key.read_bytes())
            with RawClient(it.port) as after:
                after.start_tls(renewed.client_context())
                after.hello()
            with RawClient(it.port) as stranger, pytest.raises(ssl.SSLError):
                stranger.start_tls(certificates.client_context())
        finally:
            certificates.certificate.write_bytes(old[0])
            certificates.key.write_bytes(old[1])
        before.command("NOOP", 250)
