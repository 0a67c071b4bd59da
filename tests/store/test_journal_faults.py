"""The journal under faults of the file system that the kernel really reports, injected by strace."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import asyncio, json, sys
from pathlib import Path
import structlog
from waypost.store import journal, journal_file

journal._PAUSES = (0.02,)
journal_file._CHECKPOINT_PAGES = 50
said = []
structlog.configure(processors=[lambda _, __, entry: said.append(entry["event"]) or str(entry)])

async def main():
    kept = journal.SqliteJournal(Path(sys.argv[1]))
    await kept.open()
    for number in range(3000):
        kept.write(f"{number:016}", json.dumps({"number": number, "text": "x" * 400}), (f"{number}@example.com",))
        if number % 100 == 0:
            await asyncio.sleep(0.001)
    async with asyncio.timeout(20):
        while kept.written < 3000:
            await asyncio.sleep(0.01)
    counts = [len(await kept.events(f"{number:016}")) for number in range(0, 3000, 7)]
    await kept.close()
    Path(sys.argv[2]).write_text(json.dumps({"said": said, "counts": sorted(set(counts)), "dropped": kept.dropped}))

asyncio.run(main())
"""


@pytest.mark.foreign
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("pwrite64:error=ENOSPC:when=100..103", ["journal_not_written", "journal_written_again"]),
        ("pwrite64:error=EIO:when=200..202", ["journal_not_written", "journal_written_again"]),
        # While the log cannot be folded into the file it grows: nothing has to be said.
        ("fdatasync:error=EIO:when=7..60", []),
    ],
)
def test_records_wait_for_the_disk_and_each_is_written_once(tmp_path: Path, fault: str, said: list[str]) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    call, report = fault.partition(":")[0], tmp_path / "report"
    command = ["strace", "-f", "-o", tmp_path / "calls", "-e", f"trace={call}", "-e", f"inject={fault}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", CHILD, tmp_path / "spool", report], capture_output=True, timeout=60
    )
    if done.returncode and b"ptrace" in done.stderr:
        pytest.skip("strace may not be used here")

    assert done.returncode == 0, done.stderr.decode()
    assert "(INJECTED)" in (tmp_path / "calls").read_text("utf-8"), "the fault did not come"
    found = json.loads(report.read_text("utf-8"))
    assert found["said"] == said
    assert (found["counts"], found["dropped"]) == ([1], 0)
