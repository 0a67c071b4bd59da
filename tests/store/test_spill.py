"""Content on its way in: in memory, in a file, and discarded."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.messages import octets
from waypost.delivery.spool import SpoolError
from waypost.mail.content import Content, MemoryContent
from waypost.store.files import FileContent
from waypost.store.spill import BATCH, Spill

MIB = 1024 * 1024


async def collect(spill: Spill, *pieces: bytes) -> Content:
    for piece in pieces:
        waiting = spill.write(piece)
        if waiting is not None:
            await waiting
    return await spill.finish()


async def test_small_content_stays_in_memory(tmp_path: Path) -> None:
    content = await collect(Spill(tmp_path, 100), b"Subject: x\r\n", b"\r\n", b"Hello\r\n")
    assert isinstance(content, MemoryContent)
    assert octets(content) == b"Subject: x\r\n\r\nHello\r\n"
    assert list(tmp_path.iterdir()) == []


async def test_large_content_goes_to_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    data = os.urandom(MIB + 1)
    content = await collect(Spill(tmp_path, MIB), data)
    assert isinstance(content, FileContent)
    assert octets(content) == data
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    content.close()
    content.close()
    assert list(tmp_path.iterdir()) == []


async def test_content_for_copies_goes_to_a_file_earlier(tmp_path: Path) -> None:
    spill = Spill(tmp_path, MIB, keep_above=64 * 1024)
    content = await collect(spill, b"x" * 64 * 1024, b"\r\n")
    assert isinstance(content, FileContent)
    assert octets(content) == b"x" * 64 * 1024 + b"\r\n"
    content.close()


async def test_without_a_spool_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = await collect(Spill(None, 1000), b"x" * 70_000)
    assert isinstance(content, FileContent)
    assert content.path is None
    assert list(tmp_path.iterdir()) == []
    assert octets(content) == b"x" * 70_000
    content.close()


@given(st.lists(st.binary(max_size=3000), max_size=60), st.integers(0, 200_000))
def test_the_pieces_do_not_matter(pieces: list[bytes], spill_size: int) -> None:
    async def run() -> None:
        content = await collect(Spill(None, spill_size), *pieces)
        assert octets(content) == b"".join(pieces)
        content.close()

    asyncio.run(run())


async def test_a_client_that_sends_single_octets_costs_no_list_of_them(tmp_path: Path) -> None:
    spill = Spill(tmp_path, MIB)
    data = os.urandom(20_000)
    content = await collect(spill, *(data[at : at + 1] for at in range(len(data))))
    assert octets(content) == data


async def test_a_small_piece_is_nothing_to_wait_for_until_a_batch_is_full(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 1024)
    piece = b"x" * 64 * 1024
    waits = 0
    for _ in range(4 * BATCH // len(piece)):
        waiting = spill.write(piece)
        if waiting is not None:
            waits += 1
            await waiting
    assert waits <= 4 * BATCH // (64 * 1024)
    spill.close()
    assert list(tmp_path.iterdir()) == []


async def test_closing_discards_what_was_written(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 1024)
    waiting = spill.write(b"x" * 2 * MIB)
    assert waiting is not None
    await waiting
    assert len(list(tmp_path.iterdir())) == 1
    spill.close()
    spill.close()
    assert list(tmp_path.iterdir()) == []


async def test_closing_while_a_batch_is_written_leaves_nothing(tmp_path: Path) -> None:
    """A session that is cancelled closes its spill; the thread that still writes must not write elsewhere."""
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        spill = Spill(tmp_path, 1024)
        waiting = spill.write(b"x" * 2 * MIB)
        assert waiting is not None
        writing = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        writing.cancel()
        spill.close()
        with pytest.raises(asyncio.CancelledError):
            await writing
    await asyncio.get_running_loop().shutdown_default_executor()  # waits for the threads
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@pytest.fixture
async def small_files() -> AsyncIterator[int]:
    """Files of this process may have this many octets and no more, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_said(tmp_path: Path, small_files: int) -> None:
    spill = Spill(tmp_path, 1024)
    with pytest.raises(SpoolError, match=f"cannot be written to {tmp_path}"):
        await collect(spill, b"x" * (small_files + 1))
    spill.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "gone", 1024)
    with pytest.raises(SpoolError, match="No such file"):
        await collect(spill, b"x" * 70_000)
    spill.close()


async def test_closed_content_cannot_be_read(tmp_path: Path) -> None:
    content = await collect(Spill(tmp_path, 1024), b"x" * 70_000)
    content.close()
    with pytest.raises(FileNotFoundError):
        content.head(1)


async def test_a_file_cut_short_by_somebody_else_is_an_error(tmp_path: Path) -> None:
    content = await collect(Spill(tmp_path, 1024), b"x" * 70_000)
    (file,) = tmp_path.iterdir()
    os.truncate(file, 10)
    with pytest.raises(OSError, match="ends at octet 10 of 70000"):
        list(content.chunks())
    content.close()


async def test_many_large_messages_at_once_fit_in_memory(tmp_path: Path) -> None:
    """20 messages of 50 MB, a tenth of the size here: what is held does not depend on the size."""
    spills = [Spill(tmp_path, MIB, 64 * 1024) for _ in range(20)]
    piece = bytes(256 * 1024)

    async def fill(spill: Spill) -> Content:
        return await collect(spill, *[piece] * 20)

    contents = await asyncio.gather(*map(fill, spills))
    assert [content.size for content in contents] == [20 * len(piece)] * 20
    for content in contents:
        assert max(len(chunk) for chunk in content.chunks()) <= 256 * 1024
        content.close()
