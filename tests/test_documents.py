"""The configurations that the documents show are right, and the index of decisions is whole."""

import re
from pathlib import Path

import pytest

from rig.certificates import Certificates
from rig.waypost import waypost as run_waypost

ROOT = Path(__file__).parent.parent
SHOWN = [
    pytest.param(text, id=f"{page}-{number}")
    for page in (
        "README.md",
        *sorted(str(guide.relative_to(ROOT)) for guide in (ROOT / "docs" / "guides").glob("*.md")),
    )
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_configuration_that_is_shown_passes_the_check(text: str, tmp_path: Path, certificates: Certificates) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a password\n")
    users = tmp_path / "users"
    users.write_text("ann:$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem\n")
    database = tmp_path / "database"
    database.write_text("postgresql://waypost:a-password@db.example.com/waypost\n")
    for theirs, ours in (
        ("/etc/waypost/cert.pem", certificates.certificate),
        ("/etc/waypost/key.pem", certificates.key),
        ("/etc/waypost/clients.pem", certificates.ca_file),
        ("/etc/waypost/users", users),
        *((f"/run/secrets/{name}", secret) for name in ("billing", "gitea", "newsletter", "provider")),
        ("/run/secrets/database", database),
        ("/var/lib/waypost", tmp_path / "spool"),
    ):
        text = text.replace(theirs, str(ours))
    file = tmp_path / "shown.yaml"
    file.write_text(text)
    checked = run_waypost("check", "--config", str(file), env={"STATE_DIRECTORY": str(tmp_path / "spool")})
    assert checked.returncode == 0, checked.stderr


def test_every_decision_is_in_the_index_under_its_number_and_title() -> None:
    folder = ROOT / "docs" / "decisions"
    index = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+) \|$", (folder / "README.md").read_text("utf-8"), re.M)
    assert [file for _, file, _ in index] == sorted(page.name for page in folder.glob("[0-9]*.md"))
    for number, file, title in index:
        assert int(file[:4]) == int(number)
        assert (folder / file).read_text("utf-8").startswith(f"# {number}. {title}\n")
