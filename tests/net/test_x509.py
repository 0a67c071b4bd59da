"""Names and dates of certificates of our own, and octets that are none."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509 as issued
from hypothesis import given
from hypothesis import strategies as st

from rig.certificates import Certificates
from rig.programs import run
from waypost.net import x509


def der(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def test_names_and_end() -> None:
    end = datetime(2049, 12, 31, 23, 59, 58, tzinfo=UTC)
    leaf = trustme.CA().issue_cert("Mail.Example.com", "*.example.org", "192.0.2.1", "me@example.com", not_after=end)
    assert x509.names(der(leaf)) == {"mail.example.com", "*.example.org"}
    assert x509.not_after(der(leaf)) == end


def test_an_end_far_away_is_written_otherwise() -> None:
    end = datetime(2051, 1, 1, tzinfo=UTC)
    assert x509.not_after(der(trustme.CA().issue_cert("a.example.com", not_after=end))) == end


def test_without_names_the_common_name_counts(tmp_path: Path) -> None:
    line = "openssl req -x509 -newkey rsa:2048 -nodes -subj /O=Example/CN=Old.Example.com -keyout"
    result = run(line, tmp_path / "key.pem", "-out", tmp_path / "cert.pem")
    assert result.returncode == 0
    assert x509.names(x509.first_certificate(str(tmp_path / "cert.pem"))) == {"old.example.com"}


def test_it_agrees_with_another_reader(certificates: Certificates) -> None:
    octets = x509.first_certificate(str(certificates.certificate))
    theirs = issued.load_der_x509_certificate(octets)
    assert x509.not_after(octets) == theirs.not_valid_after_utc
    names = theirs.extensions.get_extension_for_class(issued.SubjectAlternativeName).value
    assert x509.names(octets) == set(names.get_values_for_type(issued.DNSName))


@pytest.mark.parametrize("content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\n", b"\xff\xfe\x00"])
def test_a_file_without_a_certificate(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_bytes(content)
    with pytest.raises(x509.UnreadableError):
        x509.first_certificate(str(tmp_path / "none.pem"))


@given(st.binary(max_size=200))
def test_octets_that_are_no_certificate(octets: bytes) -> None:
    for read in (x509.names, x509.not_after):
        with pytest.raises(x509.UnreadableError):
            read(octets)


CERTIFICATE = der(trustme.CA().issue_cert("a.example.com"))


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_refused(at: int, octet: int) -> None:
    damaged = CERTIFICATE[:at] + bytes([octet]) + CERTIFICATE[at + 1 :]
    for read in (x509.names, x509.not_after):
        try:
            read(damaged)
        except x509.UnreadableError:
            pass
