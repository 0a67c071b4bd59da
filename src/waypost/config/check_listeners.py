"""Checks of listeners, accounts and certificates: who may send, and whether anybody can."""

import ipaddress
from collections.abc import Sequence

from waypost.config.check_certificates import check_by_name, check_pair
from waypost.config.endpoints import is_loopback
from waypost.config.environment import read_secret
from waypost.config.errors import Path, WrongValueError
from waypost.config.report import Report
from waypost.config.schema import Configuration, ListenerSection
from waypost.config.trust import everybody, wide
from waypost.config.values import TRUSTED
from waypost.routing.route import Network
from waypost.smtp.sasl import Secret


def check(model: Configuration, report: Report) -> None:
    """Reports what is wrong with the listeners."""
    pairs: set[tuple[str, str]] = set()
    if model.tls is not None:
        pairs.add((model.tls.certificate, model.tls.key))
        check_pair(("tls",), model.tls.certificate, model.tls.key, report)
        check_by_name(("tls", "by_name"), model.tls.by_name, report)
    for index, listener in enumerate(model.listeners):
        _check_address(index, model, report)
        _check_tls(index, listener, model, report, pairs)
        _check_protocol(index, listener, report)
        _check_trust(index, listener, report)
        _check_peers(("listeners", index, "proxy_protocol"), listener, listener.proxy_protocol, report)
        _check_peers(("listeners", index, "xclient"), listener, listener.xclient, report)
        _check_access(index, listener, model, report)
    _check_admin(model, report)


def called(index: int, model: Configuration, report: Report) -> str:
    """What to call a listener: its address, if that is right."""
    lost = report.is_lost("listeners", index, "address")
    return "this listener" if lost else model.listeners[index].address.text


def _check_admin(model: Configuration, report: Report) -> None:
    admin = model.admin.address if model.admin else None
    if admin is not None and not is_loopback(admin.host):
        report.warn(
            ("admin", "address"),
            f"{admin} has no password and is open to other machines",
            f"use 127.0.0.1:{admin.port}, or let a firewall or a network of its own decide who reaches it",
        )


def _check_address(index: int, model: Configuration, report: Report) -> None:
    path: Path = ("listeners", index, "address")
    address = model.listeners[index].address
    if report.is_lost(*path):
        return
    for number, earlier in enumerate(model.listeners[:index]):
        other = earlier.address
        if report.is_lost("listeners", number, "address"):
            continue
        if address.is_unix or other.is_unix:
            same = address.host == other.host
        else:
            same = address.port == other.port != 0 and overlap(address.host, other.host)
        if same or address.text == other.text:
            other_place = "path" if address.is_unix else "port"
            text = f"{address} is taken by another listener, {other}"
            report.problem(path, text, f"give one of them another {other_place}")
            break
    admin = model.admin.address if model.admin else None
    if admin is not None and admin.port == address.port != 0 and overlap(admin.host, address.host):
        report.problem(("admin", "address"), f"{admin} is taken by the listener {address}", "use another port")


def _check_protocol(index: int, listener: ListenerSection, report: Report) -> None:
    here: Path = ("listeners", index)
    if report.is_lost(*here, "address"):
        return
    address = listener.address
    if listener.protocol == "lmtp" and address.port == 25:
        text = "LMTP must not be on port 25, where servers expect SMTP (RFC 2033 section 5)"
        report.warn((*here, "address"), text, "use another port, like 24, or `unix:/path`")
    if not address.is_unix:
        if listener.socket_mode != ListenerSection.model_fields["socket_mode"].default:
            text = f"means nothing to {address}, which is not a unix socket"
            report.problem((*here, "socket_mode"), text, "leave it out, or listen on `unix:/path`")
        return
    for key in ("trusted_networks", "proxy_protocol", "xclient", "allow_open_relay"):
        if getattr(listener, key):
            text = "means nothing to a unix socket: whoever may open its file may send"
            report.problem((*here, key), text, "leave it out; `socket_mode` decides who may open it")


def overlap(one: str, other: str) -> bool:
    """Whether two hosts cannot listen on the same port."""
    if "" in (one, other) or one.lower() == other.lower():
        return True
    first, second = _address_of(one), _address_of(other)
    if first is None or second is None or first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_tls(
    index: int, listener: ListenerSection, model: Configuration, report: Report, pairs: set[tuple[str, str]]
) -> None:
    here: Path = ("listeners", index, "tls")
    own = listener.tls
    _check_minimum(index, listener, model, report)
    if own.by_name and own.certificate is None and own.key is None and not report.is_lost(*here):
        text = "has no effect without a `certificate` and `key` for everybody else"
        report.problem((*here, "by_name"), text, "set them here, or move it to `tls`")
    if (own.certificate is None) != (own.key is None):
        missing = "key" if own.key is None else "certificate"
        if not report.is_lost(*here):
            report.problem(here, f"has no {missing}", "certificate and key belong together")
    elif own.certificate is not None and own.key is not None:
        if own.mode == "off":
            report.problem((*here, "certificate"), "means nothing where TLS is off", "leave it out, or change `mode`")
        if (own.certificate, own.key) not in pairs:
            pairs.add((own.certificate, own.key))
            check_pair(here, own.certificate, own.key, report)
        check_by_name((*here, "by_name"), own.by_name, report)
    elif model.tls is None and own.mode in ("starttls", "implicit"):
        if report.given("tls") or report.is_lost(*here):
            return  # what there is of a certificate has a mistake, which has been said
        word = "implicit TLS" if own.mode == "implicit" else "STARTTLS"
        report.problem(here, f"{word} needs a certificate", "set `tls` with `certificate` and `key`")


def _check_minimum(index: int, listener: ListenerSection, model: Configuration, report: Report) -> None:
    here: Path = ("listeners", index, "tls", "minimum")
    minimum = listener.tls.minimum
    if report.is_lost(*here[:-1]):
        return
    if listener.tls.mode == "off" and report.given(*here):
        report.problem(here, "means nothing where TLS is off", "leave it out, or change `mode`")
    elif minimum in ("1.0", "1.1"):
        report.warn(
            here,
            f"OLD TLS: {called(index, model, report)} takes TLS {minimum}, with ciphers that can be broken, so "
            "passwords and mail may be read on the way",
            "keep this listener to old devices in a network of their own, and take it away with the last of them",
        )


def _check_trust(index: int, listener: ListenerSection, report: Report) -> None:
    here: Path = ("listeners", index)
    trusted: Path = (*here, "trusted_networks")
    own = "name the networks of your own clients"
    if listener.address.is_unix:
        return
    all_of_it, much_of_it = everybody(listener.trusted_networks), wide(listener.trusted_networks)
    if all_of_it and listener.allow_open_relay:
        text = "OPEN RELAY: this listener takes mail from everybody for everybody (`allow_open_relay` is set)"
        report.warn(trusted, text, own)
    elif all_of_it and not report.is_lost(*here, "allow_open_relay"):
        report.problem(
            trusted,
            f"{all_of_it}: this is the internet, so the listener is an open relay: anybody can send mail to anybody",
            f"{own}, or, if you mean it, set `allow_open_relay: true` on this listener",
        )
    elif much_of_it and not all_of_it:
        text = f"{much_of_it}: these are more addresses than one organisation has, and each may send mail to anybody"
        report.warn(trusted, text, own)
    if listener.mode == "relay" and not listener.trusted_networks and not is_loopback(listener.address.host):
        report.warn(
            here,
            "trusts this machine only, so clients on other machines are refused",
            "set `trusted_networks` to theirs",
        )


def _check_peers(here: Path, listener: ListenerSection, peers: Sequence[Network | str], report: Report) -> None:
    """Who may say whose connection it is must be somebody, and not everybody."""
    nobody = TRUSTED in peers and not listener.trusted_networks and listener.mode == "submission"
    if nobody and not any(report.is_lost(*here[:-1], other) for other in ("trusted_networks", "mode")):
        text = "means the trusted networks, and this listener has none"
        report.problem(here, text, "name the proxy's address, like 10.0.0.5")
    networks = [peer for peer in peers if not isinstance(peer, str)]
    all_of_it = everybody(networks)
    if all_of_it:
        text = f"{all_of_it}: this is the internet, so anybody could claim to be any client"
        report.problem(here, text, "name the addresses of your own proxies")


def _check_access(index: int, listener: ListenerSection, model: Configuration, report: Report) -> None:
    here: Path = ("listeners", index)
    if report.is_lost(*here, "mode") or report.has_unknown(*here):
        return
    if listener.mode == "relay":
        if listener.allow_plaintext_auth:
            report.problem(
                (*here, "allow_plaintext_auth"), "means nothing to a relay listener, where nobody authenticates"
            )
        return
    if listener.trusted_networks or listener.address.is_unix or report.is_lost(*here, "trusted_networks"):
        return
    if report.is_absent("accounts"):
        return
    if not report.names("accounts") and not report.given("accounts_file"):
        report.problem(
            here,
            "nobody can send through this submission listener: there are no accounts and no trusted networks",
            "add `accounts`, or `trusted_networks` to the listener",
        )
    elif _takes_certificates(listener, model, report):
        return
    elif listener.tls.mode in ("starttls", "implicit") or report.is_lost(*here, "tls"):
        return  # what is wrong with its TLS, if anything is, has been said
    elif report.is_lost(*here, "allow_plaintext_auth"):
        return
    elif not (_has_tls(listener, model, report) or listener.allow_plaintext_auth):
        report.problem(
            here,
            "nobody can authenticate here: there is no certificate for TLS, and passwords are not taken without",
            "set `tls`, or `allow_plaintext_auth: true` on this listener",
        )


def _takes_certificates(listener: ListenerSection, model: Configuration, report: Report) -> bool:
    return listener.client_certificates is not None and _has_tls(listener, model, report)


def _has_tls(listener: ListenerSection, model: Configuration, report: Report) -> bool:
    return listener.tls.mode != "off" and (
        listener.tls.certificate is not None or model.tls is not None or report.given("tls")
    )


def resolve(here: Path, password: Secret | None, file: str | None, report: Report) -> Secret | None:
    """The one of `password` and the content of `file` that is set. None, and a report, when that is not one."""
    if password is not None and file is not None:
        report.problem((*here, "password_file"), "is set, and so is password", "set one of them")
        return None
    if file is not None:
        try:
            return Secret(read_secret(file))
        except WrongValueError as error:
            report.problem((*here, "password_file"), error.text, error.suggestion)
            return None
    if password is None and not report.is_lost(*here):
        report.problem((*here, "password"), "is required", "set `password` or `password_file`")
    return password
