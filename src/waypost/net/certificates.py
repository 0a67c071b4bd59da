"""TLS contexts: ours, reread when its files change, and one for each way to trust an upstream."""

import ssl
import warnings

import structlog

from waypost.net.settings import ServerTls
from waypost.net.stamps import Stamp, fingerprint, stamp
from waypost.net.x509 import certificate_in
from waypost.routing.route import TlsVersion, UpstreamTls

log = structlog.get_logger()

__all__ = ["CertificateError", "ServerCertificate", "check_authorities", "fingerprint", "stamp", "upstream_context"]

_VERSIONS: dict[TlsVersion, ssl.TLSVersion] = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD = frozenset(("1.0", "1.1"))
_OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"
"""What those versions need of OpenSSL 3: at any other level it has no signature for them, and Python's own list has no
cipher."""
_MOST = 256


class CertificateError(Exception):
    """A certificate or key cannot be used. The message names the file and says why."""


class ServerCertificate:
    """A certificate chain and its key, with further ones by name. `context` rereads them when a file has changed.

    A renewal that cannot be loaded, half written or not matching, is logged, and the old one stays in use.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._stamps = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps  # a renewal in two steps changes it again
            try:
                self._context = self._load()
                log.info("certificate_renewed", certificate=self._tls.certificate)
            except CertificateError as error:
                log.error("certificate_not_renewed", reason=str(error), advice="the old one stays in use")
        return self._context

    def _look(self) -> tuple[Stamp, ...]:
        further = (file for pair in self._tls.by_name for file in pair)
        return _stamps(self._tls.certificate, self._tls.key, self._tls.client_ca, *further)

    def _load(self) -> ssl.SSLContext:
        context = self._bare(self._tls.certificate, self._tls.key)
        named: dict[str, ssl.SSLContext] = {}
        for certificate, key in self._tls.by_name:
            further = self._bare(certificate, key)
            shown = certificate_in(certificate)
            for name in () if shown is None else shown.names:
                named.setdefault(name.lower(), further)
        if named:
            _show_by_name(context, named)
        return context

    def _bare(self, certificate: str, key: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _set_minimum(context, self._tls.minimum)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        _load_pair(context, certificate, key)
        if self._tls.client_ca is not None:
            try:
                context.load_verify_locations(self._tls.client_ca)
            except (OSError, ssl.SSLError) as error:
                raise CertificateError(f"{self._tls.client_ca}: {error}") from error
            context.verify_mode = ssl.CERT_REQUIRED if self._tls.client_required else ssl.CERT_OPTIONAL
        return context


def _show_by_name(context: ssl.SSLContext, named: dict[str, ssl.SSLContext]) -> None:
    """Whoever asks for one of the names (RFC 6066 section 3) is shown its certificate; everybody else our own."""

    def choose(asking: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        asked = (name or "").lower().rstrip(".")
        found = named.get(asked) or named.get(f"*.{asked.partition('.')[2]}")
        if found is not None:
            asking.context = found

    context.sni_callback = choose


def _set_minimum(context: ssl.SSLContext, minimum: TlsVersion) -> None:
    if minimum not in _OLD:
        context.minimum_version = _VERSIONS[minimum]
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # they are asked for in so many words
        context.minimum_version = _VERSIONS[minimum]
    context.set_ciphers(_OLD_CIPHERS)


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{certificate} with {key}: {error}") from error


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


_contexts: dict[UpstreamTls, tuple[tuple[Stamp, ...], ssl.SSLContext]] = {}
"""Remembered, because reading a system's certificates takes longer than a message does."""


def upstream_context(tls: UpstreamTls) -> ssl.SSLContext:
    """The context for one upstream, made anew when one of its files has changed.

    A change that cannot be read is logged, and what was read before stays in use; without that, `CertificateError`
    is raised.
    """
    stamps = _stamps(tls.ca_file, tls.certificate, tls.key)
    known = _contexts.get(tls)
    if known is not None and known[0] == stamps:
        return known[1]
    try:
        context = _upstream_context(tls)
    except CertificateError as error:
        if known is None:
            raise
        log.error("certificate_not_renewed", reason=str(error), advice="the old one stays in use")
        context = known[1]
    if len(_contexts) >= _MOST:
        _contexts.clear()
    _contexts[tls] = stamps, context
    return context


def _upstream_context(tls: UpstreamTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_minimum(context, tls.minimum)
    if tls.certificate is not None and tls.key is not None:
        _load_pair(context, tls.certificate, tls.key)
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


def _stamps(*paths: str | None) -> tuple[Stamp, ...]:
    return tuple(stamp(path) for path in paths if path is not None)
