"""Checks of upstreams: that mail does not come back to us, and that what is set can have an effect."""

import ipaddress
import ssl

from waypost.config.check_certificates import check_pair
from waypost.config.endpoints import Endpoint
from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_sending import UpstreamSection
from waypost.config.schema_tls import UpstreamTls

_LOOPBACK = "loopback"
_SHORTEST_INTERVAL = 5.0  # seconds between probes
_POLITE_INTERVAL = 60.0  # with logins


def check(model: Configuration, report: Report, hostname: str) -> None:
    """Reports what is wrong with the upstreams. `hostname` is our own name."""
    for name, upstream in model.upstreams.items():
        _check_loop(name, upstream.address, model, report, hostname)
        _check_tls(name, upstream, report)
        _check_probe(name, upstream, report)
        if upstream.address.is_unix:
            _check_unix(name, upstream, report)


def _check_unix(name: str, upstream: UpstreamSection, report: Report) -> None:
    here: Path = ("upstreams", name)
    if upstream.client_address in ("proxy-v1", "proxy-v2"):
        text = "a PROXY header is not said on a unix socket"
        report.problem((*here, "client_address"), text, "use `xclient` or `xforward`, or an address with a port")
    tls = upstream.tls
    verifies = tls.mode in ("starttls", "implicit") and tls.verify and not tls.fingerprint
    if verifies and tls.server_name is None and not report.is_lost(*here, "tls"):
        text = "there is no host whose name the certificate could have"
        report.problem((*here, "tls"), text, "set `server_name`, or `tls: off`: a unix socket stays on this machine")


def _check_loop(name: str, address: Endpoint, model: Configuration, report: Report, hostname: str) -> None:
    for listener in model.listeners:
        ours = listener.address  # a stand-in has port 0, where no upstream is
        if address.is_unix or ours.is_unix:
            same = address.host == ours.host
        else:
            same = ours.port == address.port and _reaches(address.host, ours.host, hostname)
        if same:
            report.problem(
                ("upstreams", name, "address"),
                f"{address} is our own listener {ours}: mail would go round in circles",
                "name the server that mail is to go to",
            )
            return


def _reaches(target: str, bound: str, hostname: str) -> bool:
    """Whether a connection to the host `target` arrives at a listener bound to the host `bound`."""
    to, at = _canonical(target, hostname), _canonical(bound, hostname)
    if bound in ("", "0.0.0.0", "::"):
        return to == _LOOPBACK
    return to == at


def _canonical(host: str, hostname: str) -> str:
    """One form for all names of this machine that can be known without asking the network."""
    if host.startswith("/"):  # a unix socket
        return _LOOPBACK
    name = host.lower().rstrip(".")
    if name in ("", "localhost", "localhost.localdomain", "ip6-localhost", hostname.lower().rstrip(".")):
        return _LOOPBACK
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # A connection to the unspecified address arrives at this machine.
    return _LOOPBACK if address.is_loopback or address.is_unspecified else str(address)


def _check_probe(name: str, upstream: UpstreamSection, report: Report) -> None:
    here: Path = ("upstreams", name, "probe")
    probe = upstream.probe
    if probe.sender is not None and probe.canary is None and not report.is_lost(*here, "canary"):
        report.problem(
            (*here, "sender"), "has no effect without a `canary`, the recipient to ask about", "set `canary`"
        )
    if probe.canary is not None and not probe.login and upstream.auth is not None:
        report.problem(
            (*here, "canary"),
            "will be refused: mail to it would go with a login, and `login` is off for the probe",
            "take one of both away",
        )
    if not probe.login and upstream.auth is None and not report.is_lost("upstreams", name, "auth"):
        report.problem((*here, "login"), "has no effect: this upstream has no `auth`", "remove it")
    if 0 < probe.interval < _SHORTEST_INTERVAL and not report.is_lost(*here, "interval"):
        report.problem(
            (*here, "interval"), f"is too short: {probe.interval:g} s", f"at least {_SHORTEST_INTERVAL:g}s, or `off`"
        )
    elif 0 < probe.interval < _POLITE_INTERVAL and probe.login and upstream.auth is not None:
        report.warn(
            (*here, "interval"),
            f"logs in up to {3600 / probe.interval:.0f} times an hour when there is no mail; providers count that",
            "take 5m or more, or `login: false`",
        )


def _check_tls(name: str, upstream: UpstreamSection, report: Report) -> None:
    here: Path = ("upstreams", name, "tls")
    tls = upstream.tls
    if tls.mode in ("off", "opportunistic"):
        for key, is_set in (
            ("verify", not tls.verify),
            ("ca_file", tls.ca_file is not None),
            ("fingerprint", bool(tls.fingerprint)),
        ):
            if is_set and not report.is_lost(*here, "mode"):
                report.problem(
                    (*here, key),
                    f"means nothing to the mode {tls.mode}, which verifies nothing",
                    "use `mode: starttls`",
                )
    _check_versions_and_certificate(here, tls, report)
    if tls.mode == "off" and upstream.auth is not None and not upstream.allow_plaintext_auth:
        report.problem(
            ("upstreams", name, "auth"),
            "would never be used: TLS is off, and credentials are not sent without",
            "set `tls: starttls`, or `allow_plaintext_auth: true` on this upstream",
        )
    if (
        tls.mode == "opportunistic"
        and upstream.auth is not None
        and not upstream.allow_plaintext_auth
        and _canonical(upstream.address.host, "") != _LOOPBACK
    ):
        report.warn(
            here,
            "unverified TLS: `opportunistic` takes every certificate, so whoever stands in between gets the password",
            "set `tls: starttls`",
        )
    if tls.ca_file is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.ca_file)
        except ssl.SSLError:
            report.problem((*here, "ca_file"), f"cannot use {tls.ca_file}: it has no certificate in PEM form")
        except OSError as error:
            report.problem((*here, "ca_file"), f"cannot read {tls.ca_file}: {error.strerror}")


def _check_versions_and_certificate(here: Path, tls: UpstreamTls, report: Report) -> None:
    if report.is_lost(*here):
        return
    if tls.mode == "off":
        for key in ("minimum", "certificate", "key", "server_name"):
            if report.given(*here, key):
                report.problem((*here, key), "means nothing where TLS is off", "leave it out, or change `mode`")
        return
    if tls.minimum in ("1.0", "1.1"):
        text = f"OLD TLS: {tls.minimum} and its ciphers can be broken, so passwords and mail may be read on the way"
        report.warn((*here, "minimum"), text, "leave it out as soon as the server knows TLS 1.2")
    if (tls.certificate is None) != (tls.key is None):
        missing = "key" if tls.key is None else "certificate"
        report.problem(here, f"has no {missing}", "certificate and key belong together")
    elif tls.certificate is not None and tls.key is not None:
        check_pair(here, tls.certificate, tls.key, report)
