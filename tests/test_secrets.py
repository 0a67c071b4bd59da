"""Nothing that was confided is ever written down: the whole output of a run, searched for content and passwords."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import close, say
from rig.ports import free_port
from rig.sink import StoringSink
from rig.waypost import WaypostProcess

SUBJECT = "Zwetschgendatschi"
BODY = "Rindfleischetikettierung"
ATTACHED = "Donaudampfschiff"
ACCOUNT_PASSWORD = "Mausefalle-42"
WRONG_PASSWORD = "Mausefalle-43"
UPSTREAM_PASSWORD = "Igelstachel-99"
CONTENT = f"Subject: {SUBJECT}\r\nFrom: ann@example.com\r\n\r\n{BODY}\r\n".encode()


def forms(secret: str) -> set[str]:
    """A secret as it could show: in itself, in base64 at each of three offsets, in hexadecimal."""
    octets = secret.encode()
    shifted = {base64.b64encode(b"\0" * shift + octets).decode()[shift + 2 : -4] for shift in range(3)}
    return {secret, octets.hex(), *(form for form in shifted if len(form) > 8)}


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_log_level_shows_content_or_passwords(
    level: str, certificates: Certificates, make_sink: Callable[[StoringSink], StoringSink], tmp_path: Path
) -> None:
    first = make_sink(StoringSink(accounts={"me": "something else"}))
    second = make_sink(StoringSink(accounts={"me": UPSTREAM_PASSWORD}))
    archive = make_sink(StoringSink())
    archive.on("dot", close())
    archive.on("dot", say("550 5.7.1 Never"))
    port, admin = free_port(), free_port()
    auth = {"auth": {"username": "me", "password": UPSTREAM_PASSWORD}, "allow_plaintext_auth": True}
    made: dict[str, Any] = {
        "hostname": "waypost.example",
        "listeners": [{"address": f"127.0.0.1:{port}", "mode": "submission", "tls": "starttls"}],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
        "accounts": {"app": {"password": ACCOUNT_PASSWORD}},
        "upstreams": {
            "first": {"address": first.address, **auth},
            "second": {"address": second.address, **auth},
            "archive": {"address": archive.address},
        },
        "pools": {"providers": {"strategy": "ordered", "upstreams": ["first", "second"]}},
        "routes": {"all": {"primary": "providers", "copies": ["archive"], "backoff": ["200ms"], "acceptance": "pass"}},
        "spool": {"path": str(tmp_path / "spool")},
        "admin": {"address": f"127.0.0.1:{admin}"},
        "log": {"format": "json", "level": level},
    }
    waypost = WaypostProcess(tmp_path, made, ports=[port])
    with waypost:
        with RawClient(port) as client:
            client.hello()
            client.command("STARTTLS", 220)
            client.start_tls(certificates.client_context())
            client.command("EHLO client.example", 250)
            for password, code in ((WRONG_PASSWORD, 535), (ACCOUNT_PASSWORD, 235)):
                response = base64.b64encode(f"\0app\0{password}".encode()).decode()
                client.command(f"AUTH PLAIN {response}", code)
            assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
            second.on("dot", say("554 5.7.1 Spam"))
            assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 554
            client.command("RSET", 250)
            second.on("stored", close())
            assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 451
            client.send(f"{BODY} is no command\r\n".encode())
            client.expect(500)
            client.mail("ann@example.com", "bob@example.org")
            client.send(f"{ATTACHED}\r\n".encode())
        waypost.wait_for_record("abandoned")
        waypost.wait_for_record("dead")
    said = waypost.output()
    assert "login-refused" in said, "the run did not go through what it was meant to go through"
    for secret in (SUBJECT, BODY, ATTACHED, ACCOUNT_PASSWORD, WRONG_PASSWORD, UPSTREAM_PASSWORD, "something else"):
        for form in forms(secret):
            assert form not in said, f"{secret} is in the log as {form}"
