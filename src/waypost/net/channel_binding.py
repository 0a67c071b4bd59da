"""What ties a login to the TLS connection that it goes over: `tls-server-end-point` (RFC 5929 section 4).

Python's ssl offers `tls-unique` alone, which TLS 1.3 does not have and which was broken before; `tls-exporter`
(RFC 9266) it cannot compute. The hash of the server's certificate needs nothing but the certificate.
"""

import hashlib

from waypost.net.der import element, identifier
from waypost.smtp.scram import Binding

_HASHES = {
    "1.2.840.113549.1.1.4": "sha256",  # MD5 and SHA-1 are replaced by SHA-256
    "1.2.840.113549.1.1.5": "sha256",
    "1.2.840.10045.4.1": "sha256",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
"""The hash of each signature algorithm. Those without one (Ed25519), or with several (RSASSA-PSS), are not here."""


def server_end_point(certificate: bytes | None) -> Binding | None:
    """The binding to a server's certificate, in DER form; None when there is none for it."""
    name = None if certificate is None else _HASHES.get(signature_algorithm(certificate) or "")
    if certificate is None or name is None:
        return None
    return Binding("tls-server-end-point", hashlib.new(name, certificate).digest())


def signature_algorithm(certificate: bytes) -> str | None:
    """The object identifier of the algorithm by which a certificate is signed (RFC 5280 section 4.1)."""
    try:
        _, start, _ = element(certificate, 0)
        _, _, end = element(certificate, start)  # tbsCertificate
        _, start, _ = element(certificate, end)  # signatureAlgorithm
        tag, start, end = element(certificate, start)
    except IndexError:
        return None
    return identifier(certificate[start:end]) if tag == 6 and start < end <= len(certificate) else None
