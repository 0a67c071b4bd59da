"""The way of a line to its reader: one write for a burst, and nothing that a bad reader can do to mail."""

import asyncio
import fcntl
import json
import os
import threading

import pytest

from waypost.observe.output import Output
from waypost.observe.record import console_line, json_line


def line(record):
    return f"{record['event']}\n"


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def read_all(fd):
    os.set_blocking(fd, False)
    found = b""
    try:
        while piece := os.read(fd, 1 << 20):
            found += piece
    except BlockingIOError:
        pass
    return found


async def wait_read(fd, wanted, found=b""):
    async with asyncio.timeout(5):
        while wanted not in found:
            await asyncio.sleep(0.01)
            found += read_all(fd)
    return found


def fill(fd):
    os.set_blocking(fd, False)
    count = 0
    try:
        while True:
            count += os.write(fd, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(fd, True)
    return count


def test_without_a_loop_a_line_is_written_at_once(pipe):
    Output(pipe[1], line).emit({"event": "now"})

    assert os.read(pipe[0], 100) == b"now\n"


async def test_in_a_loop_a_burst_is_one_write(pipe):
    output = Output(pipe[1], line)
    for number in range(50):
        output.emit({"event": number})
    assert read_all(pipe[0]) == b""

    readable = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe[0], readable.set)
    await readable.wait()
    asyncio.get_running_loop().remove_reader(pipe[0])

    assert os.read(pipe[0], 10000) == b"".join(b"%d\n" % number for number in range(50))


def test_a_line_after_a_loop_that_ended_too_early_is_written(pipe):
    output = Output(pipe[1], line)

    async def emit():
        output.emit({"event": "one"})

    asyncio.run(emit())
    output.emit({"event": "two"})

    assert read_all(pipe[0]) == b"one\ntwo\n"


def test_a_reader_that_has_gone_costs_lines_and_nothing_else(pipe):
    output = Output(pipe[1], line)
    os.close(pipe[0])

    output.emit({"event": "one"})
    output.emit({"event": "two"})

    assert output.lost == 2


def test_a_descriptor_that_is_closed_costs_lines_and_nothing_else(pipe):
    output = Output(pipe[1], line)
    os.close(pipe[1])

    output.emit({"event": "one"})

    assert output.lost == 1


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_reader_that_has_stopped_blocks_nobody_and_gets_the_lines_when_it_goes_on(pipe, blocking):
    filling = fill(pipe[1])
    os.set_blocking(pipe[1], blocking)
    output = Output(pipe[1], line)

    output.emit({"event": "waited"})
    await asyncio.sleep(0)
    output.emit({"event": "too"})
    assert output.flush() is False
    found = read_all(pipe[0])
    assert len(found) == filling

    assert await wait_read(pipe[0], b"too\n") == b"waited\ntoo\n"


async def test_what_does_not_fit_in_memory_is_counted_and_told_of(pipe):
    filling = fill(pipe[1])
    output = Output(pipe[1], lambda record: f"{record['event']} {record.get('count', '')}\n", capacity=100)
    for number in range(30):
        output.emit({"event": f"{number:08}"})
        output.flush()
    assert output.lost == 20

    assert len(read_all(pipe[0])) == filling
    found = await wait_read(pipe[0], b"lost")

    assert found.startswith(b"00000000 \n00000001 \n")
    assert found.endswith(b"00000009 \nlog lines were lost 20\n")
    assert output.lost == 0


def test_a_large_burst_into_a_small_pipe_arrives_whole_and_in_order(pipe):
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    output = Output(pipe[1], line)
    found = bytearray()

    def read():
        while piece := os.read(pipe[0], 65536):
            found.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    expected = b""
    for number in range(2000):
        text = f"{number:06}" * 20
        expected += text.encode() + b"\n"
        output.emit({"event": text})
    output.close()
    os.close(pipe[1])
    reader.join(10)

    assert bytes(found) == expected


async def test_lines_of_other_threads_arrive_whole(pipe, tmp_path):
    with open(tmp_path / "log", "wb") as file:
        output = Output(file.fileno(), line)

        def work(name):
            for number in range(500):
                output.emit({"event": f"{name}-{number}"})

        workers = [asyncio.to_thread(work, name) for name in "abc"]
        work("d")
        await asyncio.gather(*workers)
        output.close()

    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert sorted(lines) == sorted(f"{name}-{number}" for name in "abcd" for number in range(500))


def test_a_full_disk_costs_lines_and_nothing_else():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    fd = os.open("/dev/full", os.O_WRONLY)
    output = Output(fd, line)

    output.emit({"event": "one"})
    os.close(fd)

    assert output.lost == 1


def test_a_record_that_cannot_be_written_is_told_of_instead(pipe):
    endless = []
    endless.append(endless)
    output = Output(pipe[1], json_line)

    output.emit({"time": "", "level": "info", "event": "odd", "facts": {(1, 2): 3}})
    output.emit({"time": "", "level": "info", "event": "endless", "facts": endless})

    records = [json.loads(line) for line in read_all(pipe[0]).split(b"\n")[:-1]]
    assert [(record["event"], record["record"]) for record in records] == [
        ("a record could not be written", "odd"),
        ("a record could not be written", "endless"),
    ]


@pytest.mark.parametrize(
    ("render", "expected"), [(json_line, None), (console_line, "00:00:00.250Z info    sent      n=1\n")]
)
def test_a_record_that_is_json_already_is_written_like_any_other(pipe, render, expected):
    made = '{"time":"2026-01-01T00:00:00.250Z","level":"info","event":"sent","n":1}'
    output = Output(pipe[1], render)

    output.emit(made)

    assert read_all(pipe[0]).decode() == (expected or f"{made}\n")
