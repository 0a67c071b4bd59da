"""Every form in which passwords are stored, against what other programs have made of them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.net import crypt_sha
from waypost.net.password_hash import SCHEMES, make
from waypost.net.passwords import PasswordError, from_configuration, from_dovecot, from_htpasswd, looks_like
from waypost.smtp.scram_server import Verifier

ODD = "secret p\u00e4$$ w\u00f6rd"

# Made by `doveadm pw -s SCHEME`, Dovecot 2.3.19.
DOVECOT = [
    ("{SHA1}q7IZYEQaxkH/o1XC/Npj9Baser8=", ODD),
    ("{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", "x"),
    ("{SHA256}LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=", "x"),
    (
        "{SHA512}Xgz6GjKjJKWi4SWOTcST1eeFmGQXQmK3ZVlftTQIIXlf+kK2VfvmrSPrSItIUW2WEIAOt8aZZbjm9f+kFxstsQ==",
        ODD,
    ),
    ("{SSHA}vtPT5tAhYPg3XL5KJ0q9f2GRJSpJpuRc", ODD),
    ("{SSHA256}6qdiQmpX1WOMpRQGjHSbQMBmucTrA15BIEfVHB9OA8+kv1Yv", "x"),
    ("{SSHA256.HEX}b34d546f91007fdbec2b3605fe939a6b77598b87fdd9ace902bd4a0fe1d793ca2f743ea9", "x"),
    (
        "{SSHA512}nt/MAShYGa7Xxm7RSdxXl6gY0YaWY1pgR/VaiVJh6RN3xUnhAOi0xsJffxUWM3j116iqX9jlcYhr6gIM/usyE6YeMpg=",
        ODD,
    ),
    (
        "{SCRAM-SHA-256}4096,UEAW/WScy0Yceaft/d7JTQ==,jLUUUwqmr9Sn29TK2iDRduYrIF9OppIvHDlyez2rCSw=,"
        "1/ZPtom63LGadXbTDBLQV8W2ieXZgJKGHw06sjbH4Vw=",
        ODD,
    ),
    ("{PBKDF2}$1$Ya.ah4iCrgSpksPl$5000$02e67af66e27ac9ca9119bb6892b518106ea555f", ODD),
    ("{BLF-CRYPT}$2y$05$KfyNTXjbS9CERHZ4J9ISs.bEjIXq.rxKCj70iLP9xx5Ml6lfnCoPu", ODD),
    (
        "{SHA512-CRYPT}$6$g.YbxNmX8P9p7p/7$v1Md1QuPiiA/2ydFW0BsxkWl6i9Hgzz4M8f10bClaHKs0ygWHbYgw6BHRgR/X9gSibXDW7um4JSp"
        "Z3km3r0MY/",
        ODD,
    ),
    ("{SHA256-CRYPT}$5$ottoDoH3AK2mNpUq$wg4PBJSEMMqUsWlnSnn2avQzEgK3apBstj8g5XEHP17", "x"),
    (
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$Dz0bk0UEnGIM/DVHGdV9wg$o+iCqMaUOfhfDY7Z5VkrlGKVqNitd2jseOrS1TAI/Gs",
        ODD,
    ),
    ("{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$i3uroPhmPjYnburewF3dtg$ABuMFU2Q/5GaOSCbhtshzwKKY8QzRrzTNt6Zbvt4EJ4", "x"),
    ("{MD5-CRYPT}$1$/n6H3YwA$d6udYwBCy5483/SveOaJM.", ODD),
    ("{DES-CRYPT}zgHwuF6rZXHDE", ODD),
    ("{CRYPT}$2y$05$e4dkqhT0Ehls23MJ711ZYuWjPi/dVW.O02wABr7az5T7M3VxVvrmy", "x"),
    ("O0ThVK4Q.QgRI", "x"),
    ("{PLAIN}" + ODD, ODD),
    ("{CLEARTEXT}x", "x"),
    ("{PLAIN.HEX}73656372657420", "secret "),
    ("{PLAIN.b64}c2VjcmV0IHDDpCQkIHfDtnJk", ODD),
    ("{PLAIN-MD5}9dd4e461268c8034f5c8564e155c67a6", "x"),
    ("{LDAP-MD5}ndTkYSaMgDT1yFZOFVxnpg==", "x"),
    ("{MD5}ndTkYSaMgDT1yFZOFVxnpg==", "x"),
    ("{MD5}$1$/n6H3YwA$d6udYwBCy5483/SveOaJM.", ODD),
    ("{SMD5}tSJesR+Sqcs0hVnfIp27twEZZOo=", "x"),
]

# Made by `openssl passwd` 3.0; {SHA} by OpenLDAP's description of it.
HTPASSWD = [
    ("$apr1$abcdefgh$sRV/KrzgJk4zZx9JHpFa0/", ODD),
    ("$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.", "x"),
    ("{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", "x"),
    ("$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem", "x"),
    (
        "$6$abcdefgh$ns1TLu05a6AnDZWZC3dfBNismyBLD1C5ml1oXKX/Hmy/YpZcWEygL15lQyNGbVFt73Rak7Pfhl3AEoZYFTcQN1",
        ODD,
    ),
    ("$5$abc$5M9XOgrSpfDO4IR40EIj1j9yEzZKO833XWaYyJoKzh9", ODD),
    ("zgHwuF6rZXHDE", ODD),
]

# The vectors of Drepper's specification that `openssl passwd` agrees with.
DREPPER = [
    (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        "Hello world!",
    ),
    (
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/"
        "y3RnOaw5v.",
        "Hello world!",
    ),
    ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
    ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
]


@pytest.mark.parametrize(("text", "password"), DOVECOT, ids=lambda value: value[:14])
def test_what_dovecot_stores(text: str, password: str) -> None:
    stored = from_dovecot(text)
    assert stored.fits(password.encode())
    assert not stored.fits(b"y" + password.encode())  # in front: old crypt sees eight octets
    assert not stored.fits(b"")
    assert text not in repr(stored)


@pytest.mark.parametrize(("text", "password"), HTPASSWD, ids=lambda value: value[:8])
def test_what_htpasswd_stores(text: str, password: str) -> None:
    stored = from_htpasswd(text)
    assert stored.fits(password.encode())
    assert not stored.fits(b"wrong")


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 500])
def test_sha_crypt_fits_itself_at_every_length(length: int) -> None:
    for number in "56":
        text = crypt_sha.hashed(number, b"p" * length, "salt", 1000)
        assert from_configuration(text).fits(b"p" * length)
        assert not from_configuration(text).fits(b"p" * (length + 1))


def test_the_vector_of_drepper_with_rounds() -> None:
    made = crypt_sha.hashed("6", b"This is just a test", "toolongsaltstrin")
    assert made == (
        "$6$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0"
    )


@pytest.mark.parametrize(
    ("text", "is_weak"),
    [
        ("{PLAIN}x", True),
        ("{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", True), ("$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.", True),
        ("$1$/n6H3YwA$d6udYwBCy5483/SveOaJM.", True), ("zgHwuF6rZXHDE", True),
        ("{SSHA}vtPT5tAhYPg3XL5KJ0q9f2GRJSpJpuRc", True),
        ("$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem", False),
        ("$5$abc$5M9XOgrSpfDO4IR40EIj1j9yEzZKO833XWaYyJoKzh9", False),
    ],
)  # fmt: skip
def test_what_is_weak(text: str, is_weak: bool) -> None:
    assert from_dovecot(text).is_weak is is_weak


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{PLAIN", "{PLAIN}", "{NTLM}0123", "{SSHA}", "{SSHA}!!!!", "{SSHA}EfatjsUqKYSrqv18O1FlA3hcIHI=",
        "{SHA}vtPT5tAhYPg3XL5KJ0q9f2GRJSpJpuRc", "{SHA.HEX}zz", "{SCRAM-SHA-256}4096,a", "{SCRAM-SHA-256}4096,!,a,b",
        "{PBKDF2}$2$a$b$c", "{PBKDF2}$1$salt$\u0665\u0660$02e67af66e27ac9ca9119bb6892b518106ea555f",
        "{SHA512-CRYPT}$5$abc$x",
        "{BLF-CRYPT}$2y$05$short", "{CRYPT}*", "*", "!", "x", "$6$", "$6$salt$short", "$6$rounds=1$s$" + "a" * 86,
        "{PLAIN.HEX}zz", "{PLAIN.B64}/w==", "{PLAIN.B64}", "{PLAIN-MD5}abc", "{SMD5}gdyb21LQTcIANtvYMT7QVQ==",
        "$6$rounds=10000001$s$" + "a" * 86, "{PBKDF2}$1$salt$10000001$02e67af66e27ac9ca9119bb6892b518106ea555f",
        "$argon2id$v=19$m=1048577,t=3,p=1$Dz0bk0UEnGIM/DVHGdV9wg$o+iCqMaUOfhfDY7Z5VkrlGKVqNitd2jseOrS1TAI/Gs",
        "$argon2id$v=19$m=65536,t=101,p=1$Dz0bk0UEnGIM/DVHGdV9wg$o+iCqMaUOfhfDY7Z5VkrlGKVqNitd2jseOrS1TAI/Gs",
        "$1$salt$short", "$argon2id$v=19$m=65536,t=3,p=1$cut", "$2b$99$" + "a" * 53, "$3$abc", "{PLAIN.HEX.B64}78",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(PasswordError):
        from_dovecot(text)


@given(st.text(max_size=60))
def test_whatever_a_file_says_is_usable_or_refused(text: str) -> None:
    for parse in (from_dovecot, from_htpasswd, from_configuration):
        try:
            stored = parse(text)
        except PasswordError:
            continue
        assert text not in repr(stored) or len(text) < 20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_we_make_is_what_we_read(scheme: str) -> None:
    text = make(scheme, ODD)
    stored = from_configuration(text)
    assert stored.fits(ODD.encode())
    assert not stored.fits(b"wrong")
    assert text != make(scheme, ODD), "the salt is chance"
    assert stored.takes_scram is (scheme == "scram-sha-256")
    assert not stored.is_weak


def test_bcrypt_is_not_given_more_than_it_looks_at() -> None:
    with pytest.raises(PasswordError, match="72 octets"):
        make("bcrypt", "x" * 73)
    assert from_configuration(make("bcrypt", "x" * 72)).fits(b"x" * 80)


def test_a_password_in_the_configuration_may_look_like_anything_else() -> None:
    for text in ("{SSHA}abc", "$apr1$abc", "$1$abc", "x", "$", "{PLAIN}x"):
        stored = from_configuration(text)
        assert stored.fits(text.encode())
        assert stored.password == text


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("{SSHA}vtPT5tAhYPg3XL5KJ0q9f2GRJSpJpuRc", "{SSHA}"), ("$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.", "apr1"),
        ("{SHA256-CRYPT}$5$abc$5M9XOgrSpfDO4IR40EIj1j9yEzZKO833XWaYyJoKzh9", "sha256-crypt"), ("$y$j9T$a$d", "crypt"),
        ("{SSHA}abc", None), ("$1$abc", None), ("{PLAIN}x", None), ("zgHwuF6rZXHDE", None), ("$y", None), ("", None),
    ],
)  # fmt: skip
def test_a_whole_hash_of_a_file_is_known_for_one(text: str, scheme: str | None) -> None:
    assert looks_like(text) == scheme


def test_a_verifier_is_that_of_dovecot() -> None:
    stored = from_dovecot(DOVECOT[8][0])
    assert stored.verifier is not None
    assert stored.verifier == Verifier.derive(ODD, stored.verifier.salt, 4096)


def test_ssha_is_sha_1_with_the_salt_behind() -> None:
    from base64 import b64encode

    digest = hashlib.sha1(b"password" + b"salt").digest()
    assert from_dovecot("{SSHA}" + b64encode(digest + b"salt").decode()).fits(b"password")


@pytest.mark.parametrize(("text", "password"), DREPPER, ids=lambda value: value[:20])
def test_the_vectors_of_drepper(text: str, password: str) -> None:
    assert from_configuration(text).fits(password.encode())
