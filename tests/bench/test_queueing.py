"""What the benchmark says of systems that queue: put off by their sink, sharing commits, draining a backlog."""

import shutil
import smtplib
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from bench.accounting import Busy, Descendants, cpu_of_program
from bench.arrivals import Arrivals
from bench.commits import Stored, parse_stored
from bench.drain import Drained, Looked, drain, filled, look
from bench.drain import render as render_backlog
from bench.matrix import Cell
from bench.report import Report, render
from bench.required import is_needed, required_rows
from bench.run import Bench, Figures, Run
from bench.sink import SinkSession, Tally
from bench.systems import SYSTEMS
from bench.systems.base import Place, System
from bench.systems.cluster import Cluster
from bench.systems.postfix import PostfixQueueDefault
from bench.systems.waypost_postgres import WaypostSpoolPostgres

from waypost.config.load import load

WAYPOST = [system for name, system in SYSTEMS.items() if name.startswith("waypost")]
BUSY = Cell("1k", "new", 200)
FIGURES = Figures(
    messages=1000,
    accepted_per_second=1000,
    delivered_per_second=500,
    cpu_per_thousand=0.5,
    kernel_share=0.5,
    peak_proportional=1,
    peak_resident=1,
    resident_at_rest=1,
    start=0.5,
    latency_median=0.001,
    latency_p99=0.002,
    accounting="test",
)

needs_smtp_source = pytest.mark.skipif(not shutil.which("smtp-source"), reason="smtp-source is not installed")


def test_a_sink_that_puts_off_takes_each_recipient_when_it_comes_again() -> None:
    tally = Tally(puts_off=True)
    session = SinkSession(tally)
    transaction = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n"
    session.feed(bytearray(transaction), len(transaction))
    assert [reply[:3] for reply in session._replies] == [b"250", b"451", b"503"]  # DATA for nobody is no content
    session.feed(bytearray(transaction + b"x\r\n.\r\n"), len(transaction) + 6)
    assert [reply[:3] for reply in session._replies[3:]] == [b"250", b"250", b"354", b"250"]
    assert tally.messages == 1
    tally.reset()
    assert not tally.wants(b"c@b.test")


def test_a_chunk_for_nobody_is_read_and_not_counted() -> None:
    tally = Tally(puts_off=True)
    session = SinkSession(tally)
    data = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@b.test>\r\nBDAT 5 LAST\r\nQUIT\nNOOP\r\n"
    session.feed(bytearray(data), len(data))
    assert [reply[:3] for reply in session._replies] == [b"250", b"451", b"503", b"250"]
    assert tally.messages == 0


def test_only_the_named_ports_of_a_sink_put_off(tmp_path: Path) -> None:
    with Arrivals(tmp_path, ("primary", "copy1"), put_off=("primary",)) as arrivals:
        with smtplib.SMTP("127.0.0.1", arrivals.ports["copy1"]) as client:
            client.sendmail("a@b.test", ["c@b.test"], b"\r\nx\r\n")
        refused = pytest.raises(smtplib.SMTPRecipientsRefused, match="451")
        with smtplib.SMTP("127.0.0.1", arrivals.ports["primary"]) as client, refused:
            client.sendmail("a@b.test", ["c@b.test"], b"\r\nx\r\n")
        counts = arrivals.count()
    assert (counts["primary"].messages, counts["copy1"].messages) == (0, 1)
    assert 0 < counts["copy1"].first <= counts["copy1"].last


def test_commits_are_read_from_the_metrics() -> None:
    text = '# HELP x y\nwaypost_spool_messages_total 120.0\nwaypost_spool_commits_total 30.0\nother{a="b c"} 1.0\n'
    assert parse_stored(text) - Stored(20, 10) == Stored(100, 20)
    with pytest.raises(ValueError, match="waypost_spool_messages_total"):
        parse_stored("waypost_spool_commits_total 30.0\n")


def test_the_cpu_of_one_program_is_told_apart() -> None:
    burn = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint('burnt', flush=True)\nsys.stdin.read()"
    with Popen([sys.executable, "-c", burn], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        group = Descendants()
        group.started(process.pid)
        name = Path(f"/proc/{process.pid}/comm").read_text().removesuffix("\n")
        assert 0.15 <= cpu_of_program(group, name) < 3
        assert cpu_of_program(group, "postgres") == 0
        process.stdin.close()


def rows(accepted: float) -> dict[str, str]:
    runs = [
        Run("waypost-spool", BUSY, 1, replace(FIGURES, accepted_per_second=accepted)),
        Run("postfix-queue", BUSY, 1, replace(FIGURES, accepted_per_second=400)),
    ]
    return {title: verdict for title, _, _, verdict in required_rows(runs)}


def test_five_times_as_many_is_a_lower_limit() -> None:
    title = "accepted/s, spool, 200 sessions, 1 KB, ÷ Postfix as queueing relay, queue on the same disk"
    assert rows(1999)[title] == "**missed**"
    assert rows(2000)[title] == "met"


def test_large_messages_are_sent_quickly_only_where_they_count() -> None:
    assert is_needed("waypost-pass", Cell("5m", "new", 20))
    assert not is_needed("postfix-queue", Cell("5m", "new", 20))
    assert is_needed("waypost-spool-pg", Cell("1k", "reused", 1))


def test_the_report_shows_shared_commits_and_the_share_of_a_database() -> None:
    stored = replace(FIGURES, stored=Stored(1000, 250), database_cpu_per_thousand=0.2)
    nothing = replace(FIGURES, stored=Stored(0, 1))
    runs = (Run("a", BUSY, 1, stored), Run("b", BUSY, 1, nothing), Run("c", BUSY, 1, FIGURES))
    names = {"a": "Queueing", "b": "Passing", "c": "Silent"}
    now = datetime(2026, 1, 2, tzinfo=UTC)
    text = render(Report(runs, (BUSY,), names, names, {}, 1, now, now, "python -m bench"))
    section = text[text.index("## Group commit") :].partition("\n## ")[0]
    assert f"| {BUSY.title} | Queueing | 500 | 125 | 4.00 |" in section  # in 2 seconds
    assert "Passing" not in section
    assert "Silent" not in section
    assert "Queueing: of its CPU seconds per 1,000 messages the database has 0.200." in text
    assert "Silent: of its" not in text


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, 12345, {"primary": 12346, "copy1": 12347, "copy2": 12348}, 12349)


@pytest.mark.parametrize("system", WAYPOST, ids=lambda system: system.name)
def test_waypost_is_given_a_configuration_that_it_takes(
    system: System, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(system, WaypostSpoolPostgres):
        monkeypatch.setattr(system, "_cluster", Cluster(place.directory))
        (place.directory / "waypost.yaml").write_text(str(system.configuration(place)))
    else:
        system.configure(place)
    settings = load(str(place.directory / "waypost.yaml"), {})
    assert settings.routes.routes["all"].primary.name == "primary"
    assert (settings.spool is None) == (system.name == "waypost-pass")
    assert (settings.admin is not None) == system.has_metrics


@pytest.mark.foreign
@pytest.mark.skipif(not shutil.which("postconf", path="/usr/sbin"), reason="Postfix is not installed")
def test_a_queue_outside_of_the_directory_is_removed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    system = PostfixQueueDefault()
    queue = place.directory / "elsewhere" / "queue"
    queue.parent.mkdir()
    monkeypatch.setattr("bench.systems.postfix._default_queue", lambda _: queue)
    assert system.make_queue(place) == queue
    assert queue.is_dir()
    system.clear_away(place)
    assert not queue.exists()


def test_the_rate_of_a_drain_is_held_against_the_direct_one() -> None:
    one = Drained(
        messages=100_000,
        rate=5900,
        direct=10_000,
        cpu_per_thousand=0.15,
        loop=Busy(0.6, 0.1),
        sink_cores=0.1,
        direct_sink_cores=0.4,
        database_per_thousand=None,
        peak_resident=60 * 1024 * 1024,
        peak_proportional=50 * 1024 * 1024,
        stored=Stored(0, 5000),
    )
    text = render_backlog({10_000: Looked(0.5, 55 * 1024 * 1024, 0.3, 0.4, 1.5)}, [one], 20, [])
    assert "5,900/s, smtp-source directly 10,000/s: 0.59 of it (required: 0.6; **missed**)" in text
    assert "the main thread ran 60% of the time, waited for a core 10%, and slept 30%" in text
    assert "5,000, 20.0 messages to each" in text
    assert "| 10,000 | 0.500 | 55.0 | 0.300 | 0.400 | 1.50 |" in text
    assert "; met)" in render_backlog({}, [replace(one, rate=6000)], 20, [])


@pytest.mark.foreign
@needs_smtp_source
def test_a_small_backlog_is_looked_at_and_drained(tmp_path: Path) -> None:
    with filled(tmp_path, "sqlite", 60) as backlog:
        looked = look(backlog)
    with filled(tmp_path, "sqlite", 60) as backlog:
        drained = drain(backlog, 60, connections=3)
    assert min(looked.start, looked.summary, looked.page, looked.everything) > 0
    assert min(drained.rate, drained.direct, drained.cpu_per_thousand) > 0
    assert drained.stored.commits > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.foreign
@needs_smtp_source
def test_a_run_that_is_put_off_delivers_everything_later(tmp_path: Path) -> None:
    run = Bench(tmp_path, messages=5, settle=0).run(SYSTEMS["waypost-hybrid-queued"], Cell("1k", "reused", 2), 1)
    assert run.failure == ""
    assert run.figures is not None
    assert run.figures.stored is not None
    assert run.figures.stored.messages == 5
    assert run.figures.delivered_per_second < run.figures.accepted_per_second
