"""What a call of each kind of plugin takes: one question after the other, by the clock.

    python -m bench.plugin_calls --calls 2000

Every plugin turns the order of three upstreams around. The time is that of the whole way: question, process, answer.
What a message with a plugin costs more than one without is for `bench.features`.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from bench.plugins import PLUGINS
from bench.report import about_machine, markdown_table
from waypost.plugins.kinds import opened
from waypost.plugins.port import Definition, Question, UpstreamFacts


def definitions(folder: Path) -> dict[str, Definition]:
    """A plugin of each kind, written to `folder`; without Go where that cannot be compiled."""
    return {each.title: Definition(name, each.kind, (str(each.write(folder)),)) for name, each in PLUGINS.items()}


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
