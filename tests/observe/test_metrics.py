"""What Prometheus gets."""

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from waypost import __version__
from waypost.observe.lag import LoopLag
from waypost.observe.metrics import Facts, Metrics, QuotaFacts, SpoolFacts, StageFacts
from waypost.smtp.address import NULL
from waypost.smtp.reply import reply

FACTS = Facts(
    sessions={"127.0.0.1:25": 3},
    upstream_healthy={"old": True, "new": False},
    upstream_connections={("old", "idle"): 2, ("old", "busy"): 1},
    upstream_paused={"old": False, "new": True},
    probes=(StageFacts("old", "connect", True, 0.25, 1e9), StageFacts("old", "auth", False, 1.5, 1e9)),
    certificates={("listener", "127.0.0.1:25"): 2e9},
    quotas=(QuotaFacts("old", "messages/day", 7, 500), QuotaFacts("old", "warm-up messages/day", 7, None)),
    spool=(
        SpoolFacts("copy:new", queued=7, dead=1, oldest=61.5, held=2),
        SpoolFacts("copy:archive", queued=0, dead=0, oldest=None),
    ),
    spool_writable=True,
    instances={"mx1": 2.5},
    spool_messages=500,
    spool_commits=20,
    journal_written=1000,
    journal_dropped=3,
)


def samples(text):
    families = text_string_to_metric_families(text.decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_facts_become_gauges():
    found = samples(Metrics(process=False).render(FACTS))

    assert found["waypost_sessions", ("listener", "127.0.0.1:25")] == 3
    assert found["waypost_upstream_healthy", ("upstream", "old")] == 1
    assert found["waypost_upstream_healthy", ("upstream", "new")] == 0
    assert found["waypost_upstream_connections", ("state", "idle"), ("upstream", "old")] == 2
    assert found["waypost_upstream_paused", ("upstream", "new")] == 1
    assert found["waypost_upstream_probe_ok", ("stage", "connect"), ("upstream", "old")] == 1
    assert found["waypost_upstream_probe_ok", ("stage", "auth"), ("upstream", "old")] == 0
    assert found["waypost_upstream_probe_duration_seconds", ("stage", "auth"), ("upstream", "old")] == 1.5
    assert found["waypost_upstream_probe_timestamp_seconds", ("upstream", "old")] == 1e9
    assert found["waypost_certificate_not_after_seconds", ("name", "127.0.0.1:25"), ("owner", "listener")] == 2e9
    assert found["waypost_spool_deliveries", ("lane", "copy:new"), ("state", "queued")] == 7
    assert found["waypost_spool_deliveries", ("lane", "copy:new"), ("state", "dead")] == 1
    assert found["waypost_spool_deliveries", ("lane", "copy:new"), ("state", "held")] == 2
    assert found["waypost_spool_oldest_seconds", ("lane", "copy:new")] == 61.5
    assert found["waypost_spool_oldest_seconds", ("lane", "copy:archive")] == 0
    assert found["waypost_spool_writable",] == 1
    assert found["waypost_instance_seen_seconds", ("instance", "mx1")] == 2.5
    assert found["waypost_spool_messages_total",] == 500
    assert found["waypost_spool_commits_total",] == 20
    assert found["waypost_journal_records_total",] == 1000
    assert found["waypost_journal_dropped_total",] == 3


def test_without_a_spool_and_a_journal_there_is_nothing_to_say_of_them():
    found = samples(Metrics(process=False).render())

    assert not [name for name, *_ in found if "journal" in name or "spool" in name]


def test_what_the_process_is_and_uses():
    found = samples(Metrics().render())

    (build,) = (key for key in found if key[0] == "waypost_build_info")
    assert ("version", __version__) in build
    assert found["process_resident_memory_bytes",] > 1_000_000
    assert found["process_open_fds",] >= 3


def test_a_histogram_counts_up_to_each_bound_and_including_it():
    metrics = Metrics(process=False)
    for seconds in (0.005, 0.006, 1000.0):
        metrics.attempt_duration.observe(("old", "primary"), seconds)

    found = samples(metrics.render())

    labels = (("role", "primary"), ("upstream", "old"))
    bucket = "waypost_attempt_duration_seconds_bucket"
    assert found[bucket, ("le", "0.005"), *labels] == 1
    assert found[bucket, ("le", "0.01"), *labels] == 2
    assert found[bucket, ("le", "600.0"), *labels] == 2
    assert found[bucket, ("le", "+Inf"), *labels] == 3
    assert found["waypost_attempt_duration_seconds_count", *labels] == 3
    assert found["waypost_attempt_duration_seconds_sum", *labels] == pytest.approx(1000.011)


def test_names_are_prefixed_and_in_base_units_and_labels_are_bounded(told, client, message, attempt):
    told.log.received(message, "r", "f:1:1")
    told.log.relayed(message, attempt, message.envelope.recipients)
    told.log.attempted("4Zk8s2d", attempt, "primary")
    told.log.refused(client, "rcpt", reply(450, "4.2.0", "b@example.net is away"))

    text = told.metrics.render(FACTS).decode()

    for value in ("example.net", "4Zk8s2d", "192.0.2.7", "nextcloud"):
        assert value not in text
    assert 'class="transient"' in text
    for key in samples(text.encode()):
        assert key[0].startswith("waypost_")


def test_the_page_lists_every_metric_with_its_type_and_labels(told, client, message, attempt):
    told.log.received(message, "r", "f:1:1")
    told.log.relayed(message, attempt, message.envelope.recipients)
    told.log.attempted("4Zk8s2d", attempt, "primary")
    told.log.refused(client, "rcpt", reply(450, "4.2.0", "away"))
    told.log.abandoned(client, message.envelope.reverse_path, None, "gone")
    told.log.session(client, "connected")
    told.log.queued(message, ["apps"], message.envelope.recipients, "why")
    told.log.answered_from_ledger(client, message.envelope, "i", reply(250, "2.0.0", "OK"))
    told.log.notified(message, message, "failed", ())
    told.log.altered("i", "hold", 7, "copy", "t", [], "root")
    told.log.rewritten("i", "route", "r", message.envelope.reverse_path, NULL, aligned=False)
    told.log.signature_broken("i", "route", "r", ["a.example"])
    told.metrics.signatures["a.example", "signed"] += 1
    told.metrics.allowances_spent["a", "messages"] += 1
    told.metrics.upstream_logins["ses", "PLAIN", "succeeded"] += 1
    told.metrics.token_requests["office", "fetched"] += 1
    told.metrics.upstream_probes["office", "ok"] += 1
    told.metrics.plugin_answered("mine", "ok", 0.001)
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in page.split("\n") if line.startswith("| `")]

    families = list(text_string_to_metric_families(told.metrics.render(FACTS).decode()))

    made = {}
    for family in families:
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        made[family.name + ("_total" if family.type == "counter" else "")] = family.type, labels
    assert {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows} == made


async def test_facts_are_asked_for_at_each_scrape():
    metrics = Metrics(process=False)
    counts = iter((1, 2))

    async def ask():
        return Facts(sessions={"a": next(counts)})

    metrics.facts = ask

    assert b'waypost_sessions{listener="a"} 1.0' in await metrics.scrape()
    assert b'waypost_sessions{listener="a"} 2.0' in await metrics.scrape()


async def test_a_blocked_loop_shows_as_lag():
    told = []
    enough = asyncio.Event()

    def report(seconds):
        told.append(seconds)
        enough.set()

    loop = asyncio.get_running_loop()
    lag = LoopLag(report, period=0.01)
    lag.start()
    overdue = loop.time() + 0.1
    while loop.time() < overdue:
        pass  # nothing else has its turn meanwhile: that is what is measured
    await asyncio.wait_for(enough.wait(), 5)
    lag.stop()

    assert 0.08 < told[-1] < 5
