"""Which spools on SQLite are opened, and which are refused: with what is wrong, where, and what to do."""

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from store.messages import make_message, plans
from store.sqlite_rig import LARGE, files
from store.sqlite_rig import queue_sized as queue
from waypost.delivery.spool import SpoolError
from waypost.store.file_system import temporary_file_system
from waypost.store.sqlite import SqliteSpool


async def test_a_second_process_is_refused(start, tmp_path: Path) -> None:
    await start()
    script = (
        "import asyncio, pathlib, sys; from waypost.store.sqlite import SqliteSpool;"
        "asyncio.run(SqliteSpool(pathlib.Path(sys.argv[1]), allow_temporary=True).open())"
    )
    second = subprocess.run([sys.executable, "-c", script, tmp_path / "spool"], capture_output=True, text=True)
    assert second.returncode != 0
    assert "in use by another process" in second.stderr
    with pytest.raises(SpoolError, match="in use by another process"):
        await SqliteSpool(tmp_path / "spool", allow_temporary=True).open()


async def test_a_newer_schema_is_refused_with_both_versions(start, tmp_path: Path) -> None:
    await (await start()).close()
    path = tmp_path / "spool" / "spool.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match=r"newer Waypost.*version 99,.*up to 2\."):
        await SqliteSpool(tmp_path / "spool", allow_temporary=True).open()
    assert path.read_bytes() == before


async def test_the_schema_of_the_first_version_is_refused_with_what_to_do(start, tmp_path: Path) -> None:
    await (await start()).close()
    path = tmp_path / "spool" / "spool.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match=r"Waypost 0\.1\.0: .*version 1.*Let that program deliver what is owed"):
        await SqliteSpool(tmp_path / "spool", allow_temporary=True).open()
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    connection = sqlite3.connect(tmp_path / "spool" / "spool.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(SpoolError, match="another program"):
        await SqliteSpool(tmp_path / "spool", allow_temporary=True).open()


@pytest.mark.parametrize("offset", [0, 4096])
async def test_a_damaged_database_is_refused_and_not_touched(start, tmp_path: Path, offset: int) -> None:
    spool = await start()
    for number in range(50):
        await queue(spool, f"m{number}", "new", size=LARGE if number == 0 else 500)
    await spool.close()
    path = tmp_path / "spool" / "spool.db"
    data = bytearray(path.read_bytes())
    data[offset : offset + 4096 * 3] = b"\x5a" * 4096 * 3
    path.write_bytes(data)
    with pytest.raises(SpoolError, match=r"(?s)damaged.*Nothing was changed.*\.dump"):
        await SqliteSpool(tmp_path / "spool", allow_temporary=True).open()
    assert path.read_bytes() == data
    assert len(files(spool)) == 1


async def test_a_path_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"cannot open the spool .* or set `spool` to another one"):
        await SqliteSpool(tmp_path / "file" / "spool").open()


async def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = SqliteSpool(tmp_path / "spool", allow_temporary=True)
    with pytest.raises(SpoolError, match="not open"):
        await spool.check()
    await spool.open()
    await spool.close()
    with pytest.raises(SpoolError, match="not open"):
        await spool.prepare(make_message(), plans("new"))


MOUNTS = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:25 / /dev/shm rw,nosuid - tmpfs tmpfs rw
31 22 0:26 / /mnt/with\\040space rw - ramfs none rw
32 22 0:27 / /mnt/hidden rw - tmpfs tmpfs rw
33 32 254:1 / /mnt/hidden rw - ext4 /dev/vdb rw
34 22 0:28 / /var/lib/docker/merged rw - overlay overlay rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/waypost", None),
        ("/dev/shm/waypost/spool", "tmpfs"),
        ("/dev/shmother", None),
        ("/mnt/with space/spool", "ramfs"),
        ("/mnt/hidden/spool", None),
        ("/var/lib/docker/merged/spool", None),
    ],
)
def test_the_file_system_of_a_path_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str | None
) -> None:
    (tmp_path / "mountinfo").write_bytes(MOUNTS)
    monkeypatch.setattr("waypost.store.file_system._MOUNTS", tmp_path / "mountinfo")
    assert temporary_file_system(Path(path)) == expected


async def test_where_nobody_knows_the_file_system_a_spool_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypost.store.file_system._MOUNTS", tmp_path / "missing")
    spool = SqliteSpool(tmp_path / "spool")
    await spool.open()
    await spool.close()


async def test_a_spool_in_memory_is_refused_unless_allowed() -> None:
    shm = Path("/dev/shm")
    if temporary_file_system(shm) is None:
        pytest.skip("/dev/shm is no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        path = Path(folder) / "spool"
        with pytest.raises(SpoolError, match=r"tmpfs file system.*`spool\.allow_temporary: true`"):
            await SqliteSpool(path).open()
        assert not path.exists()
        spool = SqliteSpool(path, allow_temporary=True)
        await spool.open()
        await spool.close()
