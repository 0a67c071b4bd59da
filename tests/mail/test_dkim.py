"""Signatures: against the published example, dkimpy and libopendkim, none of which is ours."""

import base64
import re
import subprocess
import tracemalloc
from pathlib import Path

import dkim
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from rig.programs import require
from waypost.mail.content import MemoryContent
from waypost.mail.dkim import (
    DEFAULT_HEADERS,
    Key,
    body_start,
    broken_signatures,
    covered,
    record,
    signature_field,
    signatures,
    signed_names,
)
from waypost.mail.dkim_canonical import BodyHash, body_hashes, canonical_field
from waypost.mail.dkim_key import DkimKeyError, read_key
from waypost.mail.header import Header, read_header

NOW = 1_700_000_000
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
CLEAR = serialization.NoEncryption()


def pem(key):
    return key.private_bytes(PEM, PKCS8, CLEAR)


RSA = rsa.generate_private_key(65537, 2048)
RSA_KEY = read_key(pem(RSA))
ED25519_KEY = read_key(pem(ed25519.Ed25519PrivateKey.generate()))


def key_with(private, **more):
    return Key("example.com", "s1", private.algorithm, private.sign, **more)


def stuffed(data):
    """What travels: a dot in front of each line that begins with one."""
    return re.sub(rb"(?m)(\A|\r\n)\.", rb"\1..", data)


def signed(data, key):
    content = MemoryContent(stuffed(data))
    header = read_header(content)
    hashes = body_hashes(content, body_start(header), (key.body_form,))
    return signature_field(header, key, hashes[key.body_form], NOW) + data


def dns_of(private):
    text = record(private.algorithm, private.public).encode()
    return lambda name, timeout=5: text if name == b"s1._domainkey.example.com." else None


# -- RFC 8463, appendix A

EXAMPLE = b"""\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.

""".replace(b"\n", b"\r\n")
EXAMPLE_FIELD = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=""".replace(b"\n", b"\r\n")
EXAMPLE_SIGNATURE = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
EXAMPLE_SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="


def test_the_example_of_rfc_8463():
    content = MemoryContent(EXAMPLE)
    header = read_header(content)
    digest = body_hashes(content, body_start(header), ("relaxed",))["relaxed"]
    assert base64.b64encode(digest) in EXAMPLE_FIELD
    names = signatures(Header(EXAMPLE_FIELD + b"\r\n"))[0].names
    data = b"".join(covered(header, names, "relaxed")) + canonical_field(EXAMPLE_FIELD, "relaxed").removesuffix(b"\r\n")
    private = read_key(pem(ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(EXAMPLE_SEED))))
    assert base64.b64encode(private.sign(data)).decode() == EXAMPLE_SIGNATURE
    assert record(private.algorithm, private.public) == (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    )


# -- bodies

LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b" ", b"\t ", b".a", b"a  b\tc ", b"x" * 2000, "é ".encode(), b"\x00\xff"]),
        st.text(" \t.a", max_size=6).map(str.encode),
    ),
    max_size=12,
)


@given(LINES, st.booleans(), st.lists(st.integers(0, 60), max_size=6), st.sampled_from(["simple", "relaxed"]))
def test_a_body_is_hashed_as_dkimpy_does_however_it_is_divided(lines, ends, cuts, form):
    body = b"\r\n".join(lines) + (b"\r\n" if ends and lines else b"")
    arrives = body if not body or body.endswith(b"\r\n") else body + b"\r\n"  # only BDAT can leave it out
    theirs = (Relaxed if form == "relaxed" else Simple).canonicalize_body(arrives)
    ours = BodyHash(form)
    wire = stuffed(body)
    at = 0
    for cut in cuts:
        ours.update(wire[at : at + cut])
        at += cut
    ours.update(wire[at:])
    whole = BodyHash(form)
    whole.update(wire)
    assert ours.digest() == whole.digest() == dkim.hashlib.sha256(theirs).digest()


def test_nothing_is_kept_of_a_large_body():
    content = MemoryContent(b"From: a@example.com\r\n\r\n" + b"\r\n" * 3_000_000 + b"end")
    (simple, relaxed) = body_hashes(content, 23, ("simple", "relaxed")).values()
    body = b"\r\n" * 3_000_000 + b"end\r\n"
    assert simple == relaxed == dkim.hashlib.sha256(body).digest()


class Endless:
    """Fifty megabytes in pieces that are made when they are asked for."""

    def chunks(self, start=0):
        for number in range(200):
            yield (b"%d words  and\twords \r\n" % number).ljust(500, b"x") * 512


def test_memory_stays_flat():
    tracemalloc.start()
    try:
        body_hashes(Endless(), 0, ("simple", "relaxed"))
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


# -- whole messages

NAMES = st.sampled_from([b"Subject", b"subject", b"To", b"CC", b"X-Other", b"List-Id", b"Reply-To", b"Received"])
VALUES = st.one_of(
    st.sampled_from([b"", b" x", b" a  b \t", b" folded\r\n more\r\n\tand  more ", " grüße".encode(), b"x:y"]),
    st.text("ab \t:;", max_size=20).map(str.encode),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(
    lambda fields: b"".join(b"%b:%b\r\n" % field for field in fields)
)
FORMS = st.sampled_from(["simple", "relaxed"])


@given(HEADERS, HEADERS, LINES, FORMS, FORMS)
def test_what_is_signed_verifies_with_dkimpy(before, after, lines, header_form, body_form):
    key = key_with(RSA_KEY, header_form=header_form, body_form=body_form)
    message = before + b"From: Bob <bob@example.com>\r\n" + after + b"\r\n" + b"".join(line + b"\r\n" for line in lines)
    out = signed(message, key)
    field = out[: out.index(b"\r\n", out.index(b" b=")) + 2]
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert dkim.verify(out, dnsfunc=dns_of(RSA_KEY))
    assert not dkim.verify(out + b"more", dnsfunc=dns_of(RSA_KEY))
    for name in (b"From", b"Subject", b"To"):  # nobody can add another one
        assert not dkim.verify(name + b": eve\r\n" + out, dnsfunc=dns_of(RSA_KEY))


@given(HEADERS, LINES)
def test_ed25519_verifies(before, lines):
    message = before + b"From: Bob <bob@example.com>\r\n\r\n" + b"\r\n".join(lines)
    out = signed(message, key_with(ED25519_KEY))
    header = Header(out)
    (found,) = signatures(header)
    value = out[found.field.start : found.field.end]
    signature = base64.b64decode(b"".join(value.rpartition(b" b=")[2].split()))
    data = b"".join(covered(Header(message), found.names, "relaxed"))
    data += canonical_field(value[: value.rindex(b" b=") + 3], "relaxed").removesuffix(b"\r\n")
    public = ed25519.Ed25519PublicKey.from_public_bytes(ED25519_KEY.public)
    public.verify(signature, dkim.hashlib.sha256(data).digest())


@pytest.mark.foreign
def test_libopendkim_reads_a_header_in_the_same_way(tmp_path: Path):
    """Its tool signs by rsa-sha1 only, and verifies with DNS only: what a signature covers can be compared."""
    program = require("opendkim-testmsg")
    (tmp_path / "key.pem").write_bytes(RSA.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, CLEAR))
    message = (
        b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nSubject: several\r\n\twords  here \r\n"
        b"FROM :Bob <bob@example.com>\r\nTo: x@y.example\r\nCc: a@b.example\r\n\r\n.one\r\n"
    )
    command = [program, "-C", "-d", "example.com", "-s", "s1", "-k", str(tmp_path / "key.pem"), "-t", str(tmp_path)]
    out = subprocess.run(command, input=message, capture_output=True, timeout=20, check=True).stdout
    (found,) = signatures(Header(out))
    assert (found.domain, found.selector, found.form) == ("example.com", "s1", "relaxed")
    field = out[found.field.start : found.field.end]
    at = re.search(rb"[; \t]b=", field).end()
    data = b"".join(covered(Header(message), found.names, found.form))
    data += canonical_field(field[:at], found.form).removesuffix(b"\r\n")
    signature = base64.b64decode(b"".join(field[at:].split()))
    RSA.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA1())  # that is what it makes
    with pytest.raises(InvalidSignature):
        RSA.public_key().verify(signature, data + b" ", padding.PKCS1v15(), hashes.SHA1())


# -- which fields, which messages


def test_fields_are_signed_as_often_as_they_are_there_and_some_once_more():
    header = Header(b"From: a@b\r\nCC: x\r\ncc: y\r\nX-Other: z\r\n\r\n")
    assert signed_names(header, DEFAULT_HEADERS) == ["From", "From", "To", "Cc", "Cc", "Subject"]
    assert signed_names(header, ("from", "X-Other")) == ["from", "from", "X-Other"]


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"From: a@b\r\n\r\nbody", 13),
        (b"From: a@b\r\n", 11),
        (b"From: a@b", 9),
        (b"From: a@b\r\nno field\r\n\r\nbody", None),
        (b"\r\nbody", None),
        (b"", None),
        (b"text\r\n", None),
    ],
)
def test_where_a_body_begins(data, start):
    assert body_start(read_header(MemoryContent(data))) == start


SIGNED = (
    b"DKIM-Signature: v=1; c=relaxed/simple; d=Bank.example; s=k;\r\n"
    b" h=From:Subject : to:X-Two:from; b=abc\r\nFrom: a@bank.example\r\nSubject: x\r\nX-Two: 1\r\nX-Free: 1\r\n\r\nb"
)


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        (b"a@bank.example", b"b@bank.example", True),
        (b"Subject: x", b"SUBJECT :  x  ", False),
        (b"Subject: x\r\n", b"", True),
        (b"X-Free: 1", b"X-Free: 2", False),
        (b"X-Two: 1", b"X-Two: 0\r\nX-Two: 1", False),  # the last of several is the one that was signed
        (b"X-Two: 1", b"X-Two: 1\r\nX-Two: 0", True),
        (b"X-Free", b"From: c@d\r\nX-Free", True),
        (b"X-Free", b"To: c@d\r\nX-Free", True),  # signed as absent
        (b"X-Free", b"X-New: 1\r\nX-Free", False),
    ],
)
def test_what_breaks_a_signature(old, new, breaks):
    after = SIGNED.replace(old, new)
    assert after != SIGNED
    assert [each.domain for each in broken_signatures(Header(SIGNED), Header(after))] == ["bank.example"] * breaks


def test_signatures_that_cannot_be_read_are_nobodys():
    hostile = b"DKIM-Signature: " + b";=" * 50_000 + b"\r\ndkim-signature: h=a\r\nDKIM-Signature: d=x\r\nA: 1\r\n\r\n"
    assert signatures(Header(hostile)) == []
    odd = Header(b"DKIM-Signature: d=\xff\x1b[2J; h=a; s=\r\n\r\n")
    assert [(each.domain, each.selector) for each in signatures(odd)] == [("??[2j", "")]


# -- keys


def test_keys_that_cannot_sign_are_named():
    encrypted = RSA.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
    public = RSA.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data, why in (
        (encrypted, "encrypted"),
        (public, "public key"),
        (b"-----BEGIN CERTIFICATE-----\n", "certificate"),
        (b"", "no private key in PEM form"),
        (b"secret", "no private key in PEM form"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
    ):
        with pytest.raises(DkimKeyError, match=why) as caught:
            read_key(data)
        assert "secret" not in str(caught.value)


def test_keys_say_what_they_are():
    assert (RSA_KEY.algorithm, RSA_KEY.bits) == ("rsa-sha256", 2048)
    assert (ED25519_KEY.algorithm, len(ED25519_KEY.public)) == ("ed25519-sha256", 32)
    assert read_key(RSA.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, CLEAR)).bits == 2048
