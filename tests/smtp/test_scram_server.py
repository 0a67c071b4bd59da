"""SCRAM-SHA-256 as a server: the RFC's example, proofs of every kind, and words that are none."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.serving import NONCE, OPTIONS, Serving, codes, lines
from waypost.smtp import events as e
from waypost.smtp.sasl import CancelledError, SaslError
from waypost.smtp.sasl_server import EXTERNAL, SCRAM, SERVER_MECHANISMS, Asserted, Exchange, serve
from waypost.smtp.scram_server import Proven, Sought, Verifier

SALT = b"0123456789abcdef"
VERIFIER = Verifier.derive("pencil", SALT, 4096)


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def un64(text: str) -> str:
    return base64.b64decode(text).decode()


class Client:
    """A client of RFC 5802, written from the RFC and sharing nothing with what it is to try."""

    def __init__(self, username: str, password: str, nonce: str = "rOprNGfwEbeRWgbNEkqO", header: str = "n,,") -> None:
        self.header = header
        self.password = password.encode()
        self.bare = f"n={username.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self.server_signature = b""

    @property
    def first(self) -> str:
        return self.header + self.bare

    def final(self, challenge: str) -> str:
        fields = dict(field.split("=", 1) for field in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.new(salted, b"Client Key", "sha256").digest()
        without_proof = f"c={b64(self.header)},r={fields['r']}"
        signed = f"{self.bare},{challenge},{without_proof}".encode()
        signature = hmac.new(hashlib.sha256(client_key).digest(), signed, "sha256").digest()
        server_key = hmac.new(salted, b"Server Key", "sha256").digest()
        self.server_signature = hmac.new(server_key, signed, "sha256").digest()
        return f"{without_proof},p={b64(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))}"


def begun(client: Client, verifier: Verifier = VERIFIER, nonce: str = "server") -> tuple[Exchange, str]:
    """An exchange whose first challenge has come."""
    exchange = serve(SCRAM, b64(client.first))
    assert isinstance(exchange.advance(None), Sought)
    return exchange, un64(exchange.supply(verifier, nonce))


def test_the_example_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    exchange = serve(SCRAM, b64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
    assert exchange.advance(None) == Sought("user")
    challenge = exchange.supply(Verifier.derive("pencil", salt, 4096), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert un64(challenge) == ("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    answer = exchange.advance(b64(final))
    assert isinstance(answer, str)
    assert un64(answer) == "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert exchange.advance("") == Proven("user", True)


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30)


@given(printable, printable, printable, st.binary(min_size=1, max_size=24), st.booleans())
def test_only_the_right_password_is_proven(user: str, password: str, other: str, salt: bytes, knows: bool) -> None:
    verifier = Verifier.derive(password, salt, 3)
    assert Verifier.parse(verifier.text()) == verifier
    assert verifier.fits(password)
    said = password if knows else other
    client = Client(user, said, header="y,," if knows else "n,,")
    exchange = serve(SCRAM, b64(client.first))
    assert exchange.advance(None) == Sought(user)
    answer = exchange.advance(b64(client.final(un64(exchange.supply(verifier, "abc")))))
    if said == password:
        assert isinstance(answer, str)
        assert un64(answer) == f"v={b64(client.server_signature)}"
        assert exchange.advance("") == Proven(user, True)
    else:
        assert answer == Proven(user, False)


def test_a_right_proof_is_proven_only_when_the_client_has_seen_ours() -> None:
    client = Client("user", "pencil")
    exchange, challenge = begun(client)
    assert isinstance(exchange.advance(b64(client.final(challenge))), str)
    assert isinstance(exchange.advance("*"), CancelledError)


@given(st.integers(0, 255), st.integers(1, 255))
def test_a_proof_that_differs_in_one_octet_is_none(at: int, change: int) -> None:
    client = Client("user", "pencil")
    exchange, challenge = begun(client, Verifier.derive("pencil", SALT, 3))
    without, proof = client.final(challenge).split(",p=")
    octets = bytearray(base64.b64decode(proof))
    octets[at % len(octets)] ^= change
    assert exchange.advance(b64(f"{without},p={b64(bytes(octets))}")) == Proven("user", False)


@pytest.mark.parametrize(
    "first",
    [
        "", "n", "n,,", "n,,n=user", "n,,r=abc", "n,,n=,r=abc", "n,,n=user,r=", "n,,n=us=er,r=abc", "x,,n=user,r=abc",
        "p=tls-unique,,n=user,r=abc", "n,a=other,n=user,r=abc", "n,b=user,n=user,r=abc", "n,,m=ext,n=user,r=abc",
        "n,,n=us\u0007er,r=abc", "n,,n=user,r=a b", "n,,n=user,r=\u00fc", "n,,n=\u00ad,r=abc",
        "n,,n=" + "\ufdfa" * 257 + ",r=abc",  # a name that takes long to prepare
    ],
)  # fmt: skip
def test_first_messages_that_are_none(first: str) -> None:
    assert isinstance(serve(SCRAM, b64(first) or "=").advance(None), SaslError)


@pytest.mark.parametrize(
    ("first", "username"),
    [
        ("n,a=user,n=user,r=abc", "user"),
        ("y,,n=a=2Cb=3Dc,r=abc", "a,b=c"),
        ("n,,n=I\u00adX,r=abc", "IX"),  # RFC 4013 section 3
        ("n,,n=user,r=abc,x=extension", "user"),
    ],
)
def test_first_messages_that_are(first: str, username: str) -> None:
    assert serve(SCRAM, b64(first)).advance(None) == Sought(username)


@pytest.mark.parametrize(
    "change",
    [
        lambda final: final.replace("c=biws", "c=eSws"),
        lambda final: final.replace("c=biws,", ""),
        lambda final: final.replace(",r=", ",r=x"),
        lambda final: final.rpartition(",p=")[0],
        lambda final: final.rpartition(",p=")[0] + ",p=" + b64("short"),
        lambda final: final.rpartition(",p=")[0] + ",p=!",
        lambda final: "",
    ],
)
def test_final_messages_that_are_none(change: Callable[[str], str]) -> None:
    client = Client("user", "pencil")
    exchange, challenge = begun(client)
    assert isinstance(exchange.advance(b64(change(client.final(challenge)))), SaslError)


@pytest.mark.parametrize(
    "text",
    [
        "$scram-sha-256$", "$scram-sha-256$4096$c2FsdA==$a$b", "$scram-sha-256$0$" + VERIFIER.text().split("$", 3)[3],
        VERIFIER.text() + "=", VERIFIER.text().replace("4096", "x"), VERIFIER.text().replace("4096", "99999999"),
        VERIFIER.text().replace("4096", "\u0664"), "pencil",
    ],
)  # fmt: skip
def test_verifiers_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        Verifier.parse(text)


def test_nothing_of_a_verifier_is_printed() -> None:
    assert repr(VERIFIER) == "Verifier(iterations=4096)"


OFFERING = replace(OPTIONS, auth=True, allow_plaintext_auth=True, mechanisms=SERVER_MECHANISMS)


def test_the_dialogue() -> None:
    serving = Serving(OFFERING)
    said = serving.feed(lines("EHLO client.example"))
    assert b"AUTH PLAIN LOGIN SCRAM-SHA-256 EXTERNAL\r\n" in said
    client = Client("ann", "secret")
    assert serving.feed(lines("AUTH SCRAM-SHA-256")) == b"334 \r\n"
    challenge = serving.feed(lines(b64(client.first)))
    assert challenge.startswith(b"334 ")
    text = un64(challenge[4:].strip().decode())
    assert text.startswith(f"r=rOprNGfwEbeRWgbNEkqO{NONCE},s=")
    assert serving.feed(lines(b64(client.final(text)))).startswith(b"334 ")
    assert codes(serving.feed(lines(""))) == [235]
    assert serving.trace[-2:] == [e.VerifierWanted(SCRAM, "ann"), e.Authenticate(SCRAM, Proven("ann", True))]
    assert serving.engine.authenticated


def test_an_invalid_response_leaves_the_session_in_step() -> None:
    serving = Serving(OFFERING)
    serving.feed(lines("EHLO client.example"))
    assert codes(serving.feed(lines("AUTH SCRAM-SHA-256 " + b64("nonsense"), "NOOP"))) == [501, 250]
    assert codes(serving.feed(lines("AUTH SCRAM-SHA-256 " + b64("n,,n=a,r=b"), "*", "NOOP"))) == [334, 501, 250]


def test_external_says_who_or_nothing() -> None:
    assert serve(EXTERNAL, "=").advance(None) == Asserted("")
    assert serve(EXTERNAL, b64("ann")).advance(None) == Asserted("ann")
    exchange = serve(EXTERNAL, None)
    assert exchange.advance(None) == ""
    assert exchange.advance(b64("ann")) == Asserted("ann")
