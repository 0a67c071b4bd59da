"""What a certificate says of itself, read without anybody's verification."""

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from rig.certificates import Certificates
from waypost.net.certificates import fingerprint
from waypost.net.der import identifier
from waypost.net.x509 import certificate_in, read_certificate

END = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)


def der(*names: str, ends: datetime = END) -> bytes:
    issued = trustme.CA().issue_cert(*names, not_after=ends)
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


EXAMPLE = der("mail.example.com", "*.example.org", "192.0.2.1", "2001:db8::1")


def test_end_names_and_fingerprint() -> None:
    found = read_certificate(EXAMPLE)
    assert found is not None
    assert found.not_after == END.timestamp()
    assert set(found.names) == {"mail.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"}
    assert found.fingerprint == fingerprint(EXAMPLE)
    assert found.days_left(END.timestamp() - 86400 * 1.5) == 1
    assert found.days_left(END.timestamp() + 1) == -1


def test_years_behind_2049_are_written_otherwise() -> None:
    found = read_certificate(der("a.example", ends=datetime(2051, 1, 1, tzinfo=UTC)))
    assert found is not None
    assert found.not_after == datetime(2051, 1, 1, tzinfo=UTC).timestamp()


def test_the_first_of_a_file_counts_and_a_change_of_the_file(certificates: Certificates, tmp_path: Path) -> None:
    found = certificate_in(str(certificates.certificate))
    assert found is not None
    assert "localhost" in found.names
    path = tmp_path / "cert.pem"
    assert certificate_in(str(path)) is None
    path.write_text("no certificate")
    assert certificate_in(str(path)) is None
    path.write_bytes(certificates.certificate.read_bytes())
    assert certificate_in(str(path)) == found


def test_names_that_make_no_sense_leave_the_end_known() -> None:
    for sound, broken in (
        (b"mail.example.com", b"mail.ex\xe4mple.com"),
        (b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x91"),
    ):
        assert EXAMPLE.count(sound) == 1
        found = read_certificate(EXAMPLE.replace(sound, broken))
        assert found is not None
        assert found.not_after == END.timestamp()
        assert "mail.example.com" not in found.names


def test_an_identifier_without_end_costs_nothing() -> None:
    began = time.process_time()
    with pytest.raises(IndexError):
        identifier(b"\x2a" + b"\xff" * 500_000)
    assert time.process_time() - began < 0.5  # by the square of its length it is a minute


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    assert read_certificate(octets) is None


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
def test_a_certificate_with_an_octet_changed_or_cut_off(at: int, octet: int) -> None:
    read_certificate(EXAMPLE[:at] + bytes([octet]) + EXAMPLE[at + 1 :])  # says something or None, and raises nothing
    assert read_certificate(EXAMPLE[:at]) is None
