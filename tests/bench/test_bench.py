"""The benchmark is believed only as far as its sink counts right and its report reckons right."""

import itertools
import shutil
import smtplib
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bench.accounting import Cgroup, Descendants, new_group
from bench.arrivals import Arrivals, Count, MissingError, check
from bench.latency import content, measure
from bench.matrix import CONCURRENCY, CONNECTIONS, REQUIRED, SIZES, Cell, plan
from bench.report import Report, render
from bench.required import required_rows
from bench.run import Bench, Figures, Run
from bench.sink import TERMINATOR, EndOfContent, SinkSession, Tally
from bench.spread import percentile, plain, spread
from bench.systems import SYSTEMS
from hypothesis import given
from hypothesis import strategies as st

CELL = Cell("1k", "new", 20)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at `cuts`, each taken modulo its length."""
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in itertools.pairwise([0, *at, len(data)])]


def feed(session: SinkSession, parts: list[bytes]) -> bytes:
    for part in parts:
        session.feed(bytearray(part), len(part))
    return b"".join(session._replies)


awkward = st.lists(st.sampled_from([b"\r\n.\r\n", b"\r\n", b".", b"\r", b"\n", b"x", b"..", b"\r\n."]), max_size=30)


@given(awkward, st.lists(st.integers(0, 200), max_size=12))
def test_the_end_of_content_is_found_wherever_the_octets_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    first = (b"\r\n" + data).find(TERMINATOR)
    expected = first + len(TERMINATOR) - 2 if first >= 0 else -1
    end, seen, found = EndOfContent(), 0, -1
    for piece in pieces(data, cuts):
        at = end.find(piece, 0, len(piece))
        if at >= 0:
            found = seen + at
            break
        seen += len(piece)
    assert found == expected


DIALOGUE = (
    b"EHLO client\r\n"
    b"MAIL FROM:<a@b.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test> NOTIFY=NEVER\r\nDATA\r\n"
    b"..\r\n...two dots\r\n.\r\n"
    b"mail from:<a@b.test>\r\nrcpt to:<3@b.test>\r\ndata\r\n.\r\n"
    b"MAIL FROM:<a@b.test>\r\nRCPT TO:<4@b.test>\r\nBDAT 7\r\n\r\n.\r\nxxBDAT 0\r\nBDAT 5 LAST\r\nQUIT\n"
    b"MAIL FROM:<>\r\nRCPT TO:<5@b.test>\r\nRSET\r\n"
    b"MAIL FROM:<>\r\nRCPT TO:<1@b.test>\r\nDATA\r\na\n.\nb\r\n.\r\nQUIT\r\n"
)


@given(st.lists(st.integers(0, 600), max_size=20))
def test_the_sink_counts_the_same_however_the_dialogue_is_cut(cuts: list[int]) -> None:
    tally = Tally()
    replies = feed(SinkSession(tally), pieces(DIALOGUE, cuts))
    assert tally.messages == 4
    assert tally.octets == len(b"..\r\n...two dots\r\n") + 0 + 12 + len(b"a\n.\nb\r\n")
    assert tally.recipients == {b"1@b.test": 2, b"2@b.test": 1, b"3@b.test": 1, b"4@b.test": 1}
    assert tally.summary()["repeated"] == 1
    assert replies.count(b": taken\r\n") == 4
    assert replies.count(b": chunk taken\r\n") == 2
    assert replies.count(b"354 ") == 3
    assert replies.endswith(b"221 2.0.0 Bye\r\n")


def test_the_sink_hangs_up_when_a_chunk_has_no_size() -> None:
    tally = Tally()
    replies = feed(SinkSession(tally), [b"BDAT many LAST\r\nNOOP\r\n"])
    assert replies.startswith(b"501 ")
    assert replies.count(b"\r\n") == 1
    assert tally.messages == 0


def test_arrivals_are_counted_by_port_and_forgotten_on_reset(tmp_path: Path) -> None:
    with Arrivals(tmp_path, ("primary", "copy1")) as arrivals:
        with smtplib.SMTP("127.0.0.1", arrivals.ports["copy1"]) as client:
            client.ehlo()
            assert client.has_extn("pipelining")
            assert client.has_extn("chunking")
            client.sendmail("a@b.test", ["c@b.test"], b".\r\n\r\n..\r\n")
        counts = arrivals.wait_all(("copy1",), 1, stalled_after=10)
        assert counts["copy1"].octets == len(b"..\r\n\r\n...\r\n")
        assert counts["primary"].messages == 0
        check(counts, ("copy1",), 1, 5)
        arrivals.reset()
        assert arrivals.count()["copy1"] == Count(0, 0, 0, 0, 0.0)
        with pytest.raises(MissingError, match="copy1: 0 of 1 messages"):
            arrivals.wait_all(("copy1",), 1, stalled_after=0.05)


@pytest.mark.parametrize(
    "count",
    [
        Count(messages=9, octets=900, recipients=9, repeated=0, last=1),
        Count(messages=11, octets=1100, recipients=10, repeated=1, last=1),
        Count(messages=10, octets=1000, recipients=9, repeated=1, last=1),  # one lost, one twice
        Count(messages=10, octets=999, recipients=10, repeated=0, last=1),
    ],
)
def test_a_lost_a_repeated_and_a_shortened_message_are_noticed(count: Count) -> None:
    with pytest.raises(MissingError, match="not everything arrived once"):
        check({"primary": count}, ("primary",), 10, 100)


@pytest.mark.parametrize("reuse", [True, False])
def test_the_latency_client_times_every_message(tmp_path: Path, reuse: bool) -> None:
    with Arrivals(tmp_path, ("primary",)) as arrivals:
        took = measure(arrivals.ports["primary"], sessions=3, messages=10, size=300_000, reuse=reuse)
        check(arrivals.count(), ("primary",), 10, len(content(300_000)) - len(b".\r\n"))
    assert len(took) == 10
    assert all(0 < seconds < 30 for seconds in took)


BURN = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.mark.parametrize("kind", ["cgroup", "tree"])
def test_cpu_of_children_that_have_ended_is_counted(kind: str) -> None:
    group = new_group("test") if kind == "cgroup" else Descendants()
    if kind == "cgroup" and not isinstance(group, Cgroup):
        pytest.skip("no cgroup can be made here")
    # The second command keeps the shell alive, and keeps it a parent, after the first has ended.
    command = group.wrap(["/bin/sh", "-c", '"$0" -c "$1"; echo burnt; read wait', sys.executable, BURN])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        group.started(process.pid)
        assert process.stdout.readline() == b"burnt\n"
        assert group.pids() == [process.pid]
        assert 0.28 <= group.cpu().total < 3
        process.stdin.write(b"\n")
    deadline = time.monotonic() + 10
    while group.pids() and time.monotonic() < deadline:
        pass
    group.close()


def test_numbers_are_plain_and_spread_names_the_extremes() -> None:
    assert [plain(value) for value in (0.0571, 1.234, 12.34, 123.4, 12345)] == ["0.057", "1.23", "12.3", "123", "12345"]
    assert spread([]) == "–"
    assert spread([2], "s") == "2.00 s"
    assert spread([9, 1, 2], "×") == "2.00 × (1.00–9.00)"


def test_percentiles_are_nearest_rank() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert percentile(hundred, 99) == 99
    assert percentile([1.0, 2.0, 3.0], 99) == 3
    assert percentile([5.0], 99) == 5


def figures(cpu: float = 1.0, latency: float = 0.001, resident: int = 50 * 1024 * 1024, start: float = 0.3) -> Figures:
    return Figures(
        messages=100,
        accepted_per_second=1000,
        delivered_per_second=900,
        cpu_per_thousand=cpu,
        kernel_share=0.5,
        peak_proportional=resident,
        peak_resident=resident,
        resident_at_rest=resident,
        start=start,
        latency_median=latency,
        latency_p99=2 * latency,
        accounting="test",
    )


def verdicts(runs: list[Run]) -> dict[str, tuple[str, str]]:
    return {title: (measured, verdict) for title, measured, _, verdict in required_rows(runs)}


def test_a_ratio_is_taken_inside_each_round() -> None:
    # The second round was noisy for both: the ratio of medians would hide it, the rounds' ratios do not.
    ours, theirs = [0.10, 0.60, 0.12], [0.20, 0.50, 0.10]
    runs = [Run("waypost-pass", CELL, number, figures(cpu)) for number, cpu in enumerate(ours)]
    runs += [Run("haproxy", CELL, number, figures(cpu)) for number, cpu in enumerate(theirs)]
    row = verdicts(runs)["CPU, pass, 1 KB, ÷ HAProxy"]
    assert row == ("1.20 × (0.500–1.20)", "**missed**")


def test_ceilings_are_strict_and_unmeasured_is_not_met() -> None:
    rows = verdicts([Run("waypost-pass", CELL, 1, figures(resident=80 * 1024 * 1024, start=0.99))])
    assert rows["resident memory at rest, pass"] == ("80.0 MiB", "**missed**")
    assert rows["start to first 220, pass"] == ("0.990 s", "met")
    assert rows["CPU, pass, 100 KB, ÷ HAProxy"] == ("–", "not measured")


def test_failed_runs_are_never_dropped() -> None:
    runs = [
        Run("waypost-pass", CELL, 1, figures(0.1)),
        Run("waypost-pass", CELL, 2, failure="not everything arrived once: primary: 9 of 10 | messages"),
        Run("haproxy", CELL, 1, figures(0.2)),
        Run("haproxy", CELL, 2, figures(0.2)),
    ]
    assert verdicts(runs)["CPU, pass, 1 KB, ÷ HAProxy"] == ("0.500 ×", "met, but some runs failed")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    names = {"waypost-pass": "Waypost, pass", "haproxy": "HAProxy"}
    text = render(Report(tuple(runs), (CELL,), names, names, {"Haraka": "no npm"}, 2, now, now, "python -m bench"))
    assert "| Waypost, pass | 0.100 **failed 1 of 2** |" in text
    assert "primary: 9 of 10 \\| messages" in text
    assert "| Haraka | skipped | no npm |" in text


def test_quick_runs_what_the_requirements_need() -> None:
    everything = (tuple(SIZES), CONNECTIONS, CONCURRENCY)
    assert set(plan(*everything, quick=True)) == set(REQUIRED)
    assert len(plan(*everything, quick=False)) == 24
    assert plan(("10k",), ("new",), (20,), quick=False) == [Cell("10k", "new", 20)]


@pytest.mark.foreign
@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
@pytest.mark.skipif(not shutil.which("smtp-source"), reason="smtp-source is not installed")
def test_one_run_from_start_to_end(tmp_path: Path) -> None:
    run = Bench(tmp_path, messages=10, settle=0).run(SYSTEMS["haproxy"], Cell("1k", "reused", 2), 1)
    assert run.failure == ""
    assert run.figures is not None
    # /proc counts in steps of 10 ms, which is more than ten messages take.
    counts_finely = run.figures.accounting.startswith("cgroup")
    assert run.figures.cpu_per_thousand > 0 or not counts_finely
    assert run.figures.peak_resident > 0
    assert list(tmp_path.iterdir()) == []
