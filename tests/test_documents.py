"""The configurations that the documents show are right, and the index of decisions is whole."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rig.certificates import Certificates
from waypost.cli import main

ROOT = Path(__file__).parent.parent
SHOWN = [
    pytest.param(text, id=f"{page}-{number}")
    for page in (
        "README.md",
        *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
    )
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.M | re.S))
]


def missing(shown: dict[str, Any]) -> dict[str, Any]:
    """The sections that a part of a configuration needs around it: what it names, and what every one must have."""
    if "users" in shown or "relay" in shown:
        return {}  # another program's file, which is shown whole
    routes, rules, pools = shown.get("routes", {}), shown.get("rules", []), shown.get("pools", {})
    present = [*pools, *shown.get("upstreams", ())]
    named = {name for pool in pools.values() for name in pool["upstreams"]}
    named |= {name for route in routes.values() for name in (route["primary"], *route.get("copies", ()))} - {*present}
    primary = next(iter([*present, *sorted(named), "some"]))
    around = {
        "listeners": [{"address": "127.0.0.1:2525", "mode": "submission", "allow_plaintext_auth": True}],
        "accounts": {"backup": {"password": "a password"}},
        "upstreams": {name: {"address": "mail.example.com:25"} for name in sorted(named or {"some"})},
        "routes": {rule["route"]: {"primary": primary} for rule in rules} or {"everything": {"primary": primary}},
    }
    if any(listener["mode"] == "relay" for listener in shown.get("listeners", ())):
        del around["accounts"]
    return {section: value for section, value in around.items() if section not in shown}


@pytest.mark.parametrize("text", SHOWN)
def test_a_configuration_that_is_shown_passes_the_check(
    text: str,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a password\n")
    users = tmp_path / "users"
    users.write_text("ann:$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem\n")
    database = tmp_path / "database"
    database.write_text("postgresql://waypost:a-password@db.example.com/waypost\n")
    domains = tmp_path / "domains"
    domains.write_text("example.com\n")
    signing = tmp_path / "signing.pem"
    signing.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for theirs, ours in (
        ("/etc/waypost/cert.pem", certificates.certificate),
        ("/etc/waypost/key.pem", certificates.key),
        ("/etc/waypost/clients.pem", certificates.ca_file),
        ("/etc/waypost/users", users),
        ("/etc/waypost/example.org.pem", certificates.certificate),
        ("/etc/waypost/example.org.key", certificates.key),
        ("/etc/waypost/branch.pem", certificates.certificate),
        ("/etc/waypost/branch.key", certificates.key),
        *((f"/var/lib/waypost/{name}.token", secret) for name in ("office", "shared", "gmail")),
        ("/etc/waypost/migrated-domains", domains),
        ("/etc/waypost/s2026.pem", signing),
        ("/run/secrets/database", database),
        ("examples/plugins/", f"{ROOT / 'examples' / 'plugins'}/"),
        ("./by_recipient.star", ROOT / "examples" / "plugins" / "by_recipient.star"),
        ("./rotate", program),
        ("/var/lib/waypost", tmp_path / "spool"),
    ):
        text = text.replace(theirs, str(ours))
    text = re.sub(r"/run/secrets/[a-z-]+", str(secret), text)
    file = tmp_path / "shown.yaml"
    around = missing(yaml.load(text, yaml.BaseLoader))
    file.write_text(text + (yaml.safe_dump(around) if around else ""))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "spool"))
    assert main(["check", "--config", str(file)]) == 0, capsys.readouterr().err


def shown_command_lines() -> dict[str, set[str]]:
    """Each command, with its subcommand if it has one, and the options that pages show it with."""
    found: dict[str, set[str]] = {}
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        if "decisions" in page.parts:
            continue
        text = page.read_text("utf-8")
        fenced = "".join(re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.M | re.S))
        inline = re.findall(r"`waypost ([a-z][^`]*)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        for line in (*re.findall(r"(?:^|\$ |-- )waypost ([a-z].*(?:\\\n.*)*)", fenced, re.M), *inline):
            said = re.split(r"   |\s[|>#;]", line)[0]
            command, below, *_ = *said.split(), ""
            if command in _WITH_SUBCOMMANDS and below.isalpha():
                command += f" {below}"
            found.setdefault(command, set()).update(re.findall(r"(?<=\s)--[a-z-]+", said))
    return found


_WITH_SUBCOMMANDS = {"config", "queue", "upstream", "oauth", "dkim"}


def test_commands_that_pages_show_have_these_options(capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_command_lines()
    assert len(shown) > 20
    for command, options in shown.items():
        assert main([*command.split(), "--help"]) == 0, command
        usage = capsys.readouterr().out
        assert usage.startswith(f"usage: waypost {command} "), command
        assert {option for option in options if not re.search(rf"{option}\b(?!-)", usage)} == set(), command


def test_modules_that_the_architecture_names_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`", page))
    assert len(named) > 100
    assert {
        name for name in named if not any((place / name).exists() for place in (ROOT, ROOT / "src" / "waypost"))
    } == set()


def test_every_decision_is_in_the_index_under_its_number_and_title() -> None:
    folder = ROOT / "docs" / "decisions"
    index = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+) \|$", (folder / "README.md").read_text("utf-8"), re.M)
    assert [file for _, file, _ in index] == sorted(page.name for page in folder.glob("[0-9]*.md"))
    for number, file, title in index:
        assert int(file[:4]) == int(number)
        assert (folder / file).read_text("utf-8").startswith(f"# {number}. {title}\n")
