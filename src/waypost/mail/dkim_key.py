"""Private keys for DKIM, read from PEM. The package `cryptography` is loaded only when there is one.

RSA keys have 1024 bits at least (RFC 8301 section 3.2), and should have 2048. Ed25519 (RFC 8463) is short and quick,
but not everybody verifies it yet: whoever has one signs with an RSA key as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

from waypost.mail.dkim import Algorithm, to_be_signed

LIBRARY = "cryptography"
"""The package that reads keys and signs."""

LEAST_BITS = 1024
GOOD_BITS = 2048


class DkimKeyError(ValueError):
    """The key cannot be used; the message says why, without a word of the key."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """One key. `public` is what DNS has, `bits` is the length of an RSA key, 256 for Ed25519."""

    algorithm: Algorithm
    bits: int
    public: bytes
    sign: Callable[[bytes], bytes]


def read_key(pem: bytes) -> PrivateKey:
    """The key in `pem`. Raises `DkimKeyError` when it is none that signs mail, and ImportError without the library."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise DkimKeyError("the key is encrypted, and Waypost has nobody to ask for its password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise DkimKeyError(_what_it_is(pem)) from None
    encoding, raw = serialization.Encoding, serialization.PublicFormat
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < LEAST_BITS:
            raise DkimKeyError(
                f"an RSA key of {key.key_size} bits is too short: nobody verifies less than {LEAST_BITS}"
            )
        public = key.public_key().public_bytes(encoding.DER, raw.SubjectPublicKeyInfo)
        pkcs1, sha256 = padding.PKCS1v15(), hashes.SHA256()
        return PrivateKey("rsa-sha256", key.key_size, public, lambda data: key.sign(data, pkcs1, sha256))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        public = key.public_key().public_bytes(encoding.Raw, raw.Raw)
        return PrivateKey("ed25519-sha256", 256, public, lambda data: key.sign(to_be_signed("ed25519-sha256", data)))
    raise DkimKeyError("the key is neither RSA nor Ed25519, and DKIM has no others")


def _what_it_is(pem: bytes) -> str:
    if b"CERTIFICATE" in pem:
        return "there is a certificate in it, and no private key"
    if b"PUBLIC KEY" in pem:
        return "there is a public key in it, and no private one"
    return "there is no private key in PEM form in it"
