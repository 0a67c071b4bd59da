"""The client's side of AUTH: the examples of the RFCs, what is chosen, and what hostile servers come to."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.sasl import Accounts, serve
from waypost.smtp import commands as c
from waypost.smtp.mechanisms import (
    CLIENT_MECHANISMS,
    NO_DELEGATE,
    WITH_PASSWORD,
    ClientExchange,
    Mechanism,
    Proof,
    mechanism,
    order,
)
from waypost.smtp.sasl import SaslError, Secret
from waypost.smtp.saslprep import saslprep
from waypost.smtp.scram import MAX_ITERATIONS, Binding
from waypost.smtp.wire import encode

NONCE = "rOprNGfwEbeRWgbNEkqO"
END_POINT = Binding("tls-server-end-point", b"the hash of a certificate")


def made(
    name: str, user: str = "user", secret: str = "pencil", binding: Binding | None = None, **more: Any
) -> Mechanism:
    proof = Proof(user, Secret(secret), **({"host": "server.example.com", "port": 143} | more))
    return mechanism(name, proof, NONCE, binding)


def test_plain_as_in_rfc_4616() -> None:
    assert made("PLAIN", "tim", "tanstaaftanstaaf").first() == b"\0tim\0tanstaaftanstaaf"
    assert made("PLAIN", "Kurt", "xipj3plmq", authorize_as="Ursel").first() == b"Ursel\0Kurt\0xipj3plmq"


def test_login_answers_whatever_the_prompts_are() -> None:
    login = ClientExchange("LOGIN", made("LOGIN", "tim", "secret"))
    assert login.begin() == c.Auth("LOGIN")
    assert login.advance("VXNlcm5hbWU6") == c.AuthResponse(base64.b64encode(b"tim").decode())
    assert login.advance("Password: please") == c.AuthResponse(base64.b64encode(b"secret").decode())
    with pytest.raises(SaslError):
        login.advance("")


def test_cram_md5_as_in_rfc_2195() -> None:
    cram = ClientExchange("CRAM-MD5", made("CRAM-MD5", "tim", "tanstaaftanstaaf"))
    assert cram.begin() == c.Auth("CRAM-MD5")
    answer = cram.advance("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    assert answer == c.AuthResponse("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")


def test_scram_sha_256_as_in_rfc_7677() -> None:
    scram = made("SCRAM-SHA-256")
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert scram.step(b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") == (
        b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    with pytest.raises(SaslError, match="proven"):
        scram.finish()
    assert scram.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    scram.finish()


SERVER_FIRST = b"r=" + NONCE.encode() + b"srv,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (b"", "no first message"),
        (b"r=" + NONCE.encode() + b",s=QUJD,i=4096", "nonce"),  # nothing of the server's own
        (b"r=another-nonce,s=QUJD,i=4096", "nonce"),
        (SERVER_FIRST.replace(b"4096", b"4095"), "4095 iterations"),
        (SERVER_FIRST.replace(b"4096", b"%d" % (MAX_ITERATIONS + 1)), "iterations"),
        (SERVER_FIRST.replace(b"4096", "٤٠٩٦".encode()), "no number"),
        (SERVER_FIRST.replace(b"4096", b"4_096"), "no number"),
        (SERVER_FIRST.replace(b"s=W", b"s=?"), "base64"),
        (b"m=more," + SERVER_FIRST, "no first message"),  # an extension that must be understood (RFC 5802 section 5.1)
        (b"e=unknown-user", "no first message"),
    ],
)
def test_a_first_message_that_is_none(challenge: bytes, words: str) -> None:
    scram = made("SCRAM-SHA-256")
    scram.first()
    with pytest.raises(SaslError, match=words):
        scram.step(challenge)


@pytest.mark.parametrize(
    ("final", "words"),
    [
        (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "does not know the password"),  # another exchange's
        (b"v=", "does not know the password"),
        (b"v=%%%", "base64"),
        (b"e=invalid-proof", "invalid-proof"),
        (b"", "v= is missing"),
    ],
)
def test_a_server_that_does_not_know_the_password_is_found_out(final: bytes, words: str) -> None:
    scram = made("SCRAM-SHA-256")
    scram.first()
    scram.step(SERVER_FIRST)
    with pytest.raises(SaslError, match=words):
        scram.step(final)
    with pytest.raises(SaslError, match="proven"):
        scram.finish()


def test_scram_says_what_it_knows_of_the_connection() -> None:
    assert made("SCRAM-SHA-256", binding=None).first().startswith(b"n,,")  # type: ignore[union-attr]
    assert made("SCRAM-SHA-256", binding=END_POINT).first().startswith(b"y,,")  # type: ignore[union-attr]
    first = made("SCRAM-SHA-256-PLUS", binding=END_POINT, authorize_as="a,b=c").first()
    assert first == b"p=tls-server-end-point,a=a=2Cb=3Dc,n=user,r=" + NONCE.encode()
    with pytest.raises(SaslError):
        made("SCRAM-SHA-256-PLUS", binding=None)


def test_oauthbearer_as_in_rfc_7628() -> None:
    bearer = made("OAUTHBEARER", "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
    assert ClientExchange("OAUTHBEARER", bearer).begin() == c.Auth(
        "OAUTHBEARER",
        "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52"
        "YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
    )
    assert bearer.step(b'{"status":"invalid_token","scope":"example_scope"}') == b"\x01"
    assert bearer.complaint == "status invalid_token, scope example_scope"


def test_xoauth2_as_google_describes_it() -> None:
    proof = made("XOAUTH2", "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    assert ClientExchange("XOAUTH2", proof).begin() == c.Auth(
        "XOAUTH2",
        "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2"
        "cBAQ==",
    )
    assert proof.step(b'{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}') == b""
    assert proof.complaint == "status 401, schemes bearer mac, scope https://mail.google.com/"


@pytest.mark.parametrize("name", ["XOAUTH2", "OAUTHBEARER"])
def test_the_shared_mailbox_is_named_and_the_token_is_the_delegates(name: str) -> None:
    first = made(name, "delegate@example.com", "token", authorize_as="shared@example.com").first()
    assert first is not None
    assert b"shared@example.com" in first
    assert b"delegate" not in first


@pytest.mark.parametrize("challenge", [b"", b"{", b"[1]", b'"x"', b"\xff\x00\r\n250 OK", b'{"a":{"b":1}}', b"[" * 9999])
def test_a_complaint_is_words_on_one_line_whatever_it_is(challenge: bytes) -> None:
    bearer = made("OAUTHBEARER", secret="token")
    bearer.step(b"")
    bearer.step(challenge)
    assert bearer.complaint.isprintable()
    assert 0 < len(bearer.complaint) <= 200


def test_a_complaint_never_has_the_token_in_it() -> None:
    bearer = made("XOAUTH2", secret="s3cret-token")
    bearer.step(json.dumps({"status": "400", "seen": "Bearer s3cret-token"}).encode())
    assert bearer.complaint == "status 400, seen Bearer (secret)"


def test_a_long_initial_response_waits_to_be_asked_for() -> None:
    """RFC 4954 section 4: AUTH with its initial response is a command line of 512 octets at most."""
    exchange = ClientExchange("XOAUTH2", made("XOAUTH2", secret="x" * 2000))
    assert exchange.begin() == c.Auth("XOAUTH2")
    message = base64.b64decode(exchange.advance("").text)
    assert message == b"user=user\x01auth=Bearer " + b"x" * 2000 + b"\x01\x01"
    for length in range(300, 400):
        command = ClientExchange("PLAIN", made("PLAIN", secret="x" * length)).begin()
        assert len(encode(command)) <= 512


@pytest.mark.parametrize(
    ("offered", "choice", "expected"),
    [
        (WITH_PASSWORD, {}, ("SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")),
        (WITH_PASSWORD, {"binding": True}, WITH_PASSWORD),
        (("CRAM-MD5", "PLAIN", "LOGIN"), {"private": False}, ("CRAM-MD5", "PLAIN", "LOGIN")),
        (("LOGIN", "SCRAM-SHA-256", "CRAM-MD5"), {"private": False}, ("SCRAM-SHA-256", "CRAM-MD5", "LOGIN")),
        (("CRAM-MD5", "LOGIN", "PLAIN"), {"delegate": True}, ("PLAIN",)),
        (("GSSAPI", "NTLM"), {}, ()),
        ((), {}, ("PLAIN",)),
        (("PLAIN", "XOAUTH2", "OAUTHBEARER"), {"token": True}, ("OAUTHBEARER", "XOAUTH2")),
        (("PLAIN", "LOGIN"), {"token": True}, ()),
        ((), {"token": True}, ("XOAUTH2",)),
        (("PLAIN", "LOGIN"), {"wanted": "LOGIN"}, ("LOGIN",)),
        (("PLAIN",), {"wanted": "LOGIN"}, ()),
        ((), {"wanted": "CRAM-MD5"}, ("CRAM-MD5",)),
    ],
)
def test_what_is_chosen(offered: Sequence[str], choice: dict[str, Any], expected: Sequence[str]) -> None:
    facts = {"wanted": None, "token": False, "private": True, "binding": False, "delegate": False}
    assert order(offered, **(facts | choice)) == tuple(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(NO_DELEGATE))
def test_a_mechanism_that_knows_one_name_refuses_two(name: str) -> None:
    with pytest.raises(SaslError, match="another identity"):
        made(name, authorize_as="shared")


@pytest.mark.parametrize("name", ["PLAIN", "XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("field", ["user", "secret"])
def test_what_would_end_a_field_is_refused(name: str, field: str) -> None:
    with pytest.raises(SaslError, match="control character"):
        made(name, **{field: "a\0b\x01c"})


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_saslprep_as_in_rfc_4013(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "\u0627b", "\ue000", "\u200e", "\U0001f600"])
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(SaslError):
        saslprep(text)


def begun(name: str) -> ClientExchange:
    exchange = ClientExchange(name, made(name, binding=END_POINT))
    exchange.begin()
    return exchange


near_scram = st.lists(
    st.sampled_from([b"r=", b"s=", b"i=", b"v=", b"e=", b",", b"=", NONCE.encode(), b"4096", b"QUJD", b"\xff", b"0"])
).map(b"".join)


@given(
    st.sampled_from(CLIENT_MECHANISMS),
    st.lists(st.one_of(st.binary(max_size=80), near_scram, st.just(SERVER_FIRST)), max_size=4),
)
def test_no_challenge_raises_anything_but_the_mechanisms_own_error(name: str, challenges: list[bytes]) -> None:
    exchange = begun(name)
    with contextlib.suppress(SaslError):
        for challenge in challenges:
            response = exchange.advance(base64.b64encode(challenge).decode())
            assert encode(response).count(b"\r\n") == 1
    with contextlib.suppress(SaslError):
        exchange.finish()
    assert exchange.complaint.isprintable()


@given(st.sampled_from(CLIENT_MECHANISMS), st.text(max_size=60))
def test_nor_does_text_that_is_no_challenge_at_all(name: str, text: str) -> None:
    exchange = begun(name)
    with contextlib.suppress(SaslError):
        for _ in range(5):
            exchange.advance(text)


@given(
    st.sampled_from(WITH_PASSWORD),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x24F, exclude_categories=["Cc", "Cf"]), max_size=30),
)
def test_the_two_sides_agree(name: str, user: str, password: str) -> None:
    """With a server that was written apart. Names may have commas and equal signs, passwords letters of Europe."""
    if name.startswith("SCRAM-"):
        try:
            stored = saslprep(password)
        except SaslError:
            return
    else:
        stored = password
    # CRAM-MD5's server takes the digest from behind the last space, so a name may have some.
    certificate = b"DER"
    binding = Binding("tls-server-end-point", hashlib.sha256(certificate).digest())
    accounts = Accounts({user: stored}, certificate=certificate if name.endswith("-PLUS") else None)
    client = made(name, user, password, binding if name.endswith("-PLUS") else None)
    assert serve(accounts, name, client.first(), client.step) == user
    client.finish()
    assert accounts.logins == [(name, user)]
