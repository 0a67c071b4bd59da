"""What a call of each kind of plugin takes: one question after the other, by the clock.

    python -m bench.plugin_calls --calls 2000

Every plugin turns the order of three upstreams around. The time is that of the whole way: question, process, answer.
What a message with a plugin costs more than one without is for `bench.features`.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report import about_machine, markdown_table
from waypost.plugins.kinds import opened
from waypost.plugins.port import Definition, Question, UpstreamFacts

_EXEC = """#!{python}
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    names = [upstream["name"] for upstream in asked["question"]["upstreams"]]
    print(json.dumps({{"id": asked["id"], "order": names[::-1]}}), flush=True)
"""
_FUNCTION = "def choose(question):\n    return [upstream.name for upstream in reversed(question.upstreams)]\n"
_SELECTOR = "def selector(downstreams):\n    for ds in reversed(downstreams):\n        send(ds=ds)\n"
_GO = Path(__file__).parent.parent / "examples" / "plugins" / "rotate" / "main.go"


def definitions(folder: Path) -> dict[str, Definition]:
    """A plugin of each kind, written to `folder`; without Go where that cannot be compiled."""
    program = folder / "program"
    program.write_text(_EXEC.format(python=sys.executable))
    program.chmod(0o755)
    texts = {"choose.py": _FUNCTION, "choose.star": _FUNCTION, "selector.star": _SELECTOR}
    for name, text in texts.items():
        (folder / name).write_text(text)
    found = {
        "exec (in Python)": Definition("exec", "exec", (str(program),)),
        "python": Definition("python", "python", (str(folder / "choose.py"),)),
        "starlark, `choose`": Definition("choose", "starlark", (str(folder / "choose.star"),)),
        "starlark, `selector`": Definition("selector", "starlark", (str(folder / "selector.star"),)),
    }
    if _compiled(folder / "rotate"):
        found["go"] = Definition("go", "go", (str(folder / "rotate"),))
    return found


def _compiled(program: Path) -> bool:
    """Whether the example in Go could be compiled, with Debian's packages."""
    if shutil.which("go") is None:
        return False
    more = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "CGO_ENABLED": "0"}
    built = subprocess.run(["go", "build", "-o", program, _GO], env={**os.environ, **more}, check=False)
    return built.returncode == 0


def _question() -> Question:
    upstreams = tuple(
        UpstreamFacts(name, f"{name}.example:25", "me", 1, "healthy", "", 0, None, 0.0, 0.0, None, 0.0)
        for name in "abc"
    )
    return Question(
        "id", "smtp", "app", "192.0.2.1", "client", "ann@example.com", ("bob@example.com",), 1000, "all", "pool", False,
        upstreams,
    )  # fmt: skip


async def measured(definition: Definition, calls: int) -> tuple[float, list[float]]:
    """Seconds until it was ready, and those of every call."""
    plugin, question = opened(definition), _question()
    began = time.perf_counter()
    try:
        await plugin.start()
        ready = time.perf_counter() - began
        await plugin.choose(question)
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            await plugin.choose(question)
            took.append(time.perf_counter() - began)
    finally:
        await plugin.close()
    return ready, took


def main() -> None:
    """Measures every kind, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    calls = parser.parse_args().calls
    rows = []
    with tempfile.TemporaryDirectory(prefix="waypost-bench-") as folder:
        for title, definition in definitions(Path(folder)).items():
            ready, took = asyncio.run(measured(definition, calls))
            middle, high = statistics.median(took), sorted(took)[len(took) * 99 // 100]
            rows.append([title, f"{ready * 1e3:.0f} ms", f"{middle * 1e6:.0f} µs", f"{high * 1e6:.0f} µs"])
    table = markdown_table(["kind", "ready after", "a call, median", "99 of 100 within"], rows)
    print("\n".join([*about_machine(), "", *table]))


if __name__ == "__main__":
    main()
