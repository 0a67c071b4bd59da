"""TLS contexts: ours, reread when its files change, and one for each way to trust an upstream."""

import hashlib
import os
import ssl
from functools import lru_cache

import structlog

from waypost.net.settings import ServerTls
from waypost.routing.route import UpstreamTls

log = structlog.get_logger()

Stamp = tuple[int, int, int] | None


class CertificateError(Exception):
    """A certificate or key cannot be used. The message names the file and says why."""


class ServerCertificate:
    """A certificate chain and its key. `context` rereads them when a file has changed.

    A renewal that cannot be loaded, half written or not matching, is logged, and the old one stays in use.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._stamp = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp  # a renewal in two steps changes it again
            try:
                self._context = self._load()
                log.info("certificate_renewed", certificate=self._tls.certificate)
            except CertificateError as error:
                log.error("certificate_not_renewed", reason=str(error), advice="the old one stays in use")
        return self._context

    def _look(self) -> tuple[Stamp, ...]:
        files = (self._tls.certificate, self._tls.key, self._tls.client_ca)
        return tuple(stamp(file) for file in files if file is not None)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            context.load_cert_chain(self._tls.certificate, self._tls.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self._tls.certificate} with {self._tls.key}: {error}") from error
        if self._tls.client_ca is not None:
            try:
                context.load_verify_locations(self._tls.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise CertificateError(f"{self._tls.client_ca}: {error}") from error
            context.verify_mode = ssl.CERT_REQUIRED if self._tls.client_required else ssl.CERT_OPTIONAL
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; Waypost has nobody to ask for its password")


def check_authorities(path: str) -> None:
    """Raises `CertificateError` when a file of authorities cannot be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise CertificateError(f"cannot use {path}: it has no certificate in PEM form") from None
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None


def upstream_context(tls: UpstreamTls) -> ssl.SSLContext:
    """The context for one upstream. Raises `CertificateError` when the CA file cannot be read."""
    return _upstream_context(tls, None if tls.ca_file is None else stamp(tls.ca_file))


@lru_cache(maxsize=256)
def _upstream_context(tls: UpstreamTls, stamp: Stamp) -> ssl.SSLContext:
    # Remembered, because reading a system's certificates takes longer than a message does.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.mode == "opportunistic" or tls.fingerprints or not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"{tls.ca_file}: {error}") from error
    return context


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
