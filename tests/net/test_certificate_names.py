"""Whose certificate is shown: by fingerprint, mail address or subject, and never one of several."""

import pytest

from waypost.net.client_certificates import Certificates, ShownCertificate, certificate_name, shown
from waypost.routing.route import Account

PRINTER = "a1" * 32


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (PRINTER, PRINTER),
        (":".join(["A1"] * 32), PRINTER),
        ("Ann@Example.COM", "Ann@example.com"),
        ("CN=printer", "commonName=printer"),
        ("o = Example\\, Ltd , CN=printer 3", "commonName=printer 3,organizationName=Example\\, Ltd"),
        ("emailAddress=ann@example.com", "emailAddress=ann@example.com"),
    ],
)
def test_names_in_one_form(written: str, meant: str) -> None:
    assert certificate_name(written) == meant
    assert certificate_name(meant) == meant


@pytest.mark.parametrize("written", ["", "printer", "a1" * 31, "@", "a b@c", "CN=", "=x", "XX=printer", "CN=a,,O=b"])
def test_names_that_are_none(written: str) -> None:
    with pytest.raises(ValueError):
        certificate_name(written)


def certificates(**named: str) -> Certificates:
    return Certificates({name: Account(name, certificates=(certificate_name(text),)) for name, text in named.items()})


SHOWN = shown(
    b"der",
    {
        "subject": ((("countryName", "DE"),), (("organizationName", "Example"),), (("commonName", "printer"),)),
        "subjectAltName": (("DNS", "printer.example.com"), ("email", "Printer@EXAMPLE.com")),
    },
)


def found(among: Certificates, certificate: ShownCertificate = SHOWN) -> str | None:
    account = among.find(certificate)
    return None if account is None else account.name


def test_each_way() -> None:
    assert found(certificates(a=SHOWN.fingerprint)) == "a"
    assert found(certificates(a="Printer@example.com")) == "a"
    assert found(certificates(a="CN=printer,O=Example")) == "a"
    assert found(certificates(a="CN=printer")) == "a"


def test_what_is_not_in_it_is_not_matched() -> None:
    assert found(certificates(a="printer@example.com")) is None, "the local part is as it is written"
    assert found(certificates(a="CN=printer,O=Other")) is None
    assert found(certificates(a="CN=Printer")) is None
    assert found(certificates(a="00" * 32)) is None
    assert not Certificates({})


def test_the_more_precise_comes_first_and_of_several_none() -> None:
    assert found(certificates(a="CN=printer", b=SHOWN.fingerprint)) == "b"
    assert found(certificates(a="CN=printer", b="O=Example")) is None
