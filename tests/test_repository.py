"""What the repository says about itself is true: links, commands, versions, packaging."""

import re
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import waypost
from rig.ports import free_port
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waypost import WaypostProcess
from rig.waypost import waypost as run_waypost

ROOT = Path(__file__).parent.parent
COMMANDS = {
    *("run", "demo", "sink", "check", "explain", "config", "queue", "trace", "plan", "upstream", "oauth", "send"),
    *("healthcheck", "version", "hash-password", "dkim"),
}
CONFIG_COMMANDS = {"show", "import", "schema", "init"}

_SKIPPED = {".venv", ".git", ".pytest_cache", "node_modules", ".work", "build", "dist"}
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)

PAGES = sorted(path for path in ROOT.rglob("*.md") if not _SKIPPED & set(path.relative_to(ROOT).parts))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text("utf-8")))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def targets() -> set[str]:
    """The targets of the Makefile that are meant to be typed."""
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCED.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_found_by_following_links_from_the_readme() -> None:
    found, todo = set(), {ROOT / "README.md"}
    while todo:
        page = todo.pop()
        found.add(page)
        links = _LINK.findall(_FENCED.sub("", page.read_text("utf-8")))
        linked = {(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link}
        todo |= {target for target in linked if target.suffix == ".md" and target.exists()} - found
    assert {str(page.relative_to(ROOT)) for page in {*PAGES} - found} == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_that_are_named_exist(page: str) -> None:
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z]+)", (ROOT / page).read_text("utf-8"), re.MULTILINE))
    assert named, f"{page} names no target"
    assert named <= targets()


def test_waypost_commands_that_pages_name_exist() -> None:
    unknown = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        code = "\n".join(_FENCED.findall(text) + re.findall(r"`([^`\n]+)`", text))
        named = set(re.findall(r"^(?:\$ )?waypost ([a-z][a-z-]+)", code, re.MULTILINE))
        if named - COMMANDS and "decisions" not in page.parts:
            unknown[page.name] = sorted(named - COMMANDS)
    assert unknown == {}


def test_make_lists_its_targets() -> None:
    listed = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, encoding="utf-8", check=True, timeout=30)
    assert {"setup", "demo", "test", "check", "bench", "docs", "clean"} <= targets()
    assert {line.split()[1] for line in listed.stdout.strip().split("\n")} == targets()


def test_one_version_everywhere() -> None:
    assert version("waypost") == waypost.__version__
    assert f"## {waypost.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8").replace("[", "").replace("]", "")
    assert f"ARG VERSION={waypost.__version__}\n" in (ROOT / "Dockerfile").read_text("utf-8")
    said = run_waypost("version")
    assert said.returncode == 0
    assert waypost.__version__ in said.stdout


@pytest.mark.parametrize("word", sorted(COMMANDS))
def test_every_command_is_listed_and_explains_itself(word: str) -> None:
    listed = run_waypost("--help")
    assert listed.returncode == 0
    assert re.search(rf"^ +{word} +\w", listed.stdout, re.MULTILINE)
    own = run_waypost(word, "--help")
    assert own.returncode == 0, own.stderr
    assert f"waypost {word}" in own.stdout


def test_the_commands_of_config_are_listed() -> None:
    said = run_waypost("config", "--help")
    assert said.returncode == 0
    for word in CONFIG_COMMANDS:
        assert re.search(rf"\b{word}\b", said.stdout), said.stdout


def test_the_configuration_of_the_compose_file_is_right(tmp_path: Path) -> None:
    file = str(ROOT / "packaging" / "compose-waypost.yaml")
    checked = run_waypost("check", "--config", file, env={"WAYPOST_SPOOL_PATH": str(tmp_path)})
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_two_instances_in_compose_share_the_database_that_is_started_with_them() -> None:
    over = yaml.safe_load((ROOT / "packaging" / "compose-postgres.yaml").read_text("utf-8"))["services"]
    image = over["database"]
    password, name = image["environment"]["POSTGRES_PASSWORD"], image["environment"]["POSTGRES_DB"]
    assert re.search(r":[0-9]+\.[0-9]+$", image["image"])
    assert over["waypost"]["hostname"] != over["neighbour"]["hostname"]
    file = str(ROOT / "packaging" / "compose-waypost.yaml")
    for service in ("waypost", "neighbour"):
        environ = over[service]["environment"]
        assert environ["WAYPOST_SPOOL_URL"] == f"postgresql://waypost:{password}@database/{name}"
        checked = run_waypost("check", "--config", file, env={"WAYPOST_SPOOL_URL": environ["WAYPOST_SPOOL_URL"]})
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert f"@database/{name}\n" in checked.stdout
        assert all(port.startswith("127.0.0.1:") for port in over[service].get("ports", ()))


def test_compose_pins_its_images_and_publishes_on_this_machine_only() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    for service in services.values():
        assert "build" in service or re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    mounted = [volume.split(":")[0] for volume in services["waypost"]["volumes"] if volume.startswith("./")]
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_the_image_bakes_in_no_configuration() -> None:
    """Defect G14: a baked-in example shadowed the file that was mounted."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]]
    assert set(copied) == {"pyproject.toml", "README.md", "LICENSE", "src", "--from=build", "/opt/waypost"}
    presets = ROOT / "src" / "waypost" / "config" / "presets"  # read only by who names one
    found = [path for suffix in ("yaml", "yml") for path in (ROOT / "src").rglob(f"*.{suffix}")]
    assert not [path for path in found if path.parent != presets]


def test_the_image_and_the_unit_run_commands_that_exist() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.findall(r'CMD \["waypost", "([a-z]+)"\]', dockerfile) == ["healthcheck"]
    assert re.findall(r'^CMD \["([a-z]+)"\]', dockerfile, re.MULTILINE) == ["run"]
    unit = (ROOT / "packaging" / "waypost.service").read_text("utf-8")
    assert re.findall(r"^ExecStart=/opt/waypost/bin/waypost (\w+) --config", unit, re.MULTILINE) == ["run"]
    assert "\nRestartPreventExitStatus=78\n" in unit


def test_what_the_unit_expects_of_the_program_is_true(
    tmp_path: Path, sink: StoringSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = (ROOT / "packaging" / "waypost.service").read_text("utf-8")
    assert "\nType=notify\n" in unit
    assert "\nExecReload=" not in unit  # there is no reload
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("listeners: []\n")
    assert run_waypost("run", "--config", str(wrong)).returncode == 78
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        monkeypatch.chdir(tmp_path)  # the whole path can be longer than a socket's name may be
        systemd.bind("notify")
        systemd.settimeout(15)
        port = free_port()
        with WaypostProcess(tmp_path, relaying(port, sink.address), ports=[port], env={"NOTIFY_SOCKET": "notify"}):
            assert b"READY=1" in systemd.recv(4096).split(b"\n")
        assert b"STOPPING=1" in systemd.recv(4096).split(b"\n")
