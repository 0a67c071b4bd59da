"""Configurations as the tests write them: plain values in the form of docs/configuration.md."""

from pathlib import Path
from typing import Any

from rig.certificates import Certificates

USERNAME = "test@user.com"
PASSWORD = "password123"  # that of smtpmux's walk-through


def relaying(port: int, primary: str, *copies: str, spool: Path | None = None, **more: Any) -> dict[str, Any]:
    """A relay listener on `port`, for this machine; mail goes to `primary` and, as well, to every copy.

    `primary` and `copies` are addresses of upstreams. `more` is added to the one route.
    """
    upstreams = {"primary": primary, **{f"copy{number}": copy for number, copy in enumerate(copies, 1)}}
    route: dict[str, Any] = {"primary": "primary", **more}
    if copies:
        route |= {"copies": [name for name in upstreams if name != "primary"], "backoff": ["200ms"]}
    settings: dict[str, Any] = {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "relay", "trusted_networks": ["127.0.0.0/8"]}],
        "upstreams": {name: {"address": address} for name, address in upstreams.items()},
        "routes": {"all": route},
    }
    if spool is not None:
        settings["spool"] = {"path": str(spool)}
    return settings


def submitting(
    port: int,
    primary: str,
    certificates: Certificates,
    *,
    tls: str = "starttls",
    spool: Path | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A submission listener on `port`, where `USERNAME` authenticates inside TLS; mail goes to `primary`.

    `more` is added to the one route. Without a spool nothing can be queued: the client gets the primary's answer.
    """
    settings: dict[str, Any] = {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "submission", "tls": tls}],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
        "accounts": {USERNAME: {"password": PASSWORD}},
        "upstreams": {"primary": {"address": primary}},
        "routes": {"all": {"primary": "primary", **({"acceptance": "pass"} if spool is None else {}), **more}},
    }
    if spool is not None:
        settings["spool"] = {"path": str(spool)}
    return settings
