"""Haraka with smtp_forward: npm brings it at first use, into the git-ignored working directory."""

import json
import shutil
import subprocess
from pathlib import Path

from bench.systems.base import Place, Plain

HOME = Path(__file__).parents[1] / ".work" / "haraka"
PACKAGE = HOME / "node_modules" / "Haraka"
BEFORE = "2026-05-01"
"""The day whose versions are installed: the same Haraka, with the same dependencies, for everybody."""

SMTP_INI = """\
listen=127.0.0.1:{port}
nodes=0
"""

FORWARD_INI = """\
host=127.0.0.1
port={sink}
enable_tls=false
enable_outbound=false
"""

TAKE_ALL = """\
'use strict'
exports.hook_rcpt = function (next) { next(OK) }
"""


class Haraka(Plain):
    """One process, the plugin that forwards, and one that takes every recipient."""

    name = "haraka"
    title = "Haraka, smtp_forward"

    def unavailable(self) -> str | None:
        if not shutil.which("node") or not shutil.which("npm"):
            return "node and npm are not installed"
        if (PACKAGE / "package.json").exists():
            return None
        HOME.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(HOME), "--before", BEFORE, "--omit=optional", "Haraka@3"]
        try:
            done = subprocess.run(
                [*command, "--no-audit", "--no-fund"], capture_output=True, text=True, check=False, timeout=300
            )
        except subprocess.TimeoutExpired:
            return "npm install Haraka@3 takes longer than 5 minutes"
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
            return f"npm install Haraka@3 fails: {(errors or ['no words'])[-1]}"
        return None

    def version(self) -> str:
        version = json.loads((PACKAGE / "package.json").read_text())["version"]
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
        return f"Haraka {version}, node {node}"

    def configure(self, place: Place) -> list[str]:
        files = {
            "config/smtp.ini": SMTP_INI.format(port=place.port),
            "config/smtp_forward.ini": FORWARD_INI.format(sink=place.sinks["primary"]),
            "config/plugins": "take_all\nqueue/smtp_forward\n",
            "config/me": "haraka.bench.test\n",
            "config/connection.ini": (PACKAGE / "config" / "connection.ini").read_text(),  # not read unless copied
            "plugins/take_all.js": TAKE_ALL,
        }
        for name, text in files.items():
            path = place.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return ["node", str(PACKAGE / "bin" / "haraka"), "-c", str(place.directory)]
