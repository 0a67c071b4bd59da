"""The plugins that are measured, one for each way to write one. All of them turn the order of the upstreams around.

The one in Go, an example of ours, is there where it can be compiled: with Debian's packages, without a network.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FUNCTION = "def choose(question):\n    return [upstream.name for upstream in reversed(question.upstreams)]\n"
_SELECTOR = "def selector(downstreams):\n    for ds in reversed(downstreams):\n        send(ds=ds)\n"
_PROGRAM = f"""#!{sys.executable} -IS
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    names = [upstream["name"] for upstream in asked["question"]["upstreams"]]
    print(json.dumps({{"id": asked["id"], "order": names[::-1]}}), flush=True)
"""
_GO = Path(__file__).parent.parent / "examples" / "plugins" / "rotate" / "main.go"
_SOURCES = Path("/usr/share/gocode")


@dataclass(frozen=True, slots=True)
class Measured:
    """One plugin. Without a text it is compiled."""

    title: str
    kind: str
    """The configuration key."""
    file: str
    text: str | None

    def write(self, folder: Path) -> Path:
        """Makes it in a folder. Raises `CalledProcessError` when it does not compile."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file
        if self.text is None:
            more = {"GO111MODULE": "off", "GOPATH": str(_SOURCES), "GOFLAGS": "", "CGO_ENABLED": "0"}
            subprocess.run(["go", "build", "-o", path, _GO], env={**os.environ, **more}, check=True)
        else:
            path.write_text(self.text)
            path.chmod(0o755)
        return path


def _all() -> dict[str, Measured]:
    found = {
        "python": Measured("Python function", "python", "choose.py", _FUNCTION),
        "async": Measured("Python coroutine", "python", "async.py", f"async {_FUNCTION}"),
        "exec": Measured("program in lines of JSON", "exec", "program", _PROGRAM),
        "starlark": Measured("Starlark, `choose`", "starlark", "choose.star", _FUNCTION),
        "selector": Measured("Starlark, smtpmux's `selector`", "starlark", "selector.star", _SELECTOR),
    }
    if shutil.which("go") and (_SOURCES / "src" / "github.com" / "hashicorp" / "go-plugin").is_dir():
        found["go"] = Measured("smtpmux's in Go", "go", "rotate", None)
    return found


PLUGINS: Mapping[str, Measured] = _all()
"""By a short name."""
