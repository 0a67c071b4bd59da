"""What tells one certificate, or one state of a file, from another."""

import hashlib
import os

Stamp = tuple[int, int, int] | None


def stamp(path: str) -> Stamp:
    """What changes when a file does."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER form, in hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()
