"""When upstreams are probed, and what that changes: a clock that stands still, and a prober that does as it is told."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from waypost.clock import FakeClock
from waypost.delivery.availability import Availability
from waypost.delivery.candidates import Candidates
from waypost.delivery.probes import Probes
from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.observe.metrics import Metrics
from waypost.routing.classify import ReplyRules
from waypost.routing.health import State
from waypost.routing.login import Login
from waypost.routing.probing import Finding, ProbeSettings, Stage, StageState
from waypost.routing.route import Upstream
from waypost.routing.verdict import Kind, ReplyRule, verdict
from waypost.smtp.reply import reply
from waypost.smtp.sasl import Secret

INTERVAL = 300.0
ONE = Upstream("one", "one.example", 25, probe=ProbeSettings(INTERVAL))
DOWN = Failure(Phase.CONNECT, Cause.UNREACHABLE, "Connection refused")
REFUSED = reply(535, "5.7.8", "no")


class FakeProber:
    """Finds what it is told to find."""

    def __init__(self) -> None:
        self.asked = 0
        self.finds: Answer | None = None
        self.is_full = False
        self.broken = False

    async def probe(self, upstream: Upstream) -> Finding | None:
        self.asked += 1
        if self.broken:
            raise RuntimeError("a defect")
        if self.is_full:
            return None
        if self.finds is None:
            stages = [Stage(phase, StageState.OK) for phase in (Phase.CONNECT, Phase.AUTH)]
            return Finding(upstream.name, 0.0, tuple(stages))
        phase = self.finds.phase if isinstance(self.finds, Failure) else Phase.AUTH
        failed = Stage(phase, StageState.FAILED, str(self.finds))
        stages = [failed] if phase is Phase.CONNECT else [Stage(Phase.CONNECT, StageState.OK), failed]
        return Finding(upstream.name, 0.0, tuple(stages), Stopped(phase, self.finds))


class House:
    def __init__(self, *upstreams: Upstream) -> None:
        self.clock = FakeClock()
        self.prober = FakeProber()
        self.metrics = Metrics(process=False)
        self.slept: list[tuple[str, float]] = []
        self.availability = Availability(self.clock, lambda name, until, reason: self.slept.append((name, until)))
        self.candidates = Candidates(
            *(Nobody(), self.clock, lambda: 0.5),  # type: ignore[arg-type]
            availability=self.availability,
        )
        self.probes = Probes(upstreams, self.prober, self.availability, self.metrics, self.clock, lambda: 0.5)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)

    def judge(self, answer: Answer, phase: Phase = Phase.DOT) -> None:
        """Mail has had this answer."""
        self.candidates.judge(ONE, phase, answer, self.clock.monotonic())

    @property
    def state(self) -> State:
        return self.availability.health["one"].state(self.clock.monotonic())


class Nobody:
    """A sender that is not used."""


@pytest.fixture
def house() -> House:
    made = House(ONE, Upstream("off", "off.example", 25))
    made.probes.start()
    return made


async def test_soon_after_the_start_and_then_at_the_interval(house: House) -> None:
    await house.pass_time(15)
    assert house.prober.asked == 1
    await house.pass_time(INTERVAL - 1)
    assert house.prober.asked == 1
    await house.pass_time(1)
    assert house.prober.asked == 2
    assert set(house.probes.found) == {"one"}
    assert house.metrics.upstream_probes["one", "ok"] == 2
    await house.probes.stop()
    await house.pass_time(10 * INTERVAL)
    assert house.prober.asked == 2


async def test_mail_that_gets_through_is_probe_enough(house: House) -> None:
    for _ in range(5):
        house.judge(reply(250, "2.0.0", "OK"))
        await house.pass_time(INTERVAL / 2)
    assert house.prober.asked == 0
    await house.pass_time(2 * INTERVAL)
    assert house.prober.asked >= 1


async def test_what_has_failed_is_probed_again_though_mail_gets_through(house: House) -> None:
    house.prober.finds = DOWN
    await house.pass_time(15)
    house.judge(reply(250, "2.0.0", "OK"))
    house.prober.finds = None
    await house.pass_time(INTERVAL)
    assert house.prober.asked == 2
    assert house.probes.found["one"].failed is None


async def test_three_that_fail_open_it_like_mail(house: House) -> None:
    house.prober.finds = DOWN
    await house.pass_time(15)
    await house.pass_time(INTERVAL)
    assert house.state is State.CLOSED
    await house.pass_time(INTERVAL)
    assert house.state is State.OPEN


async def test_one_that_succeeds_hastens_the_trial_of_an_open_one_and_does_not_close_it(house: House) -> None:
    for _ in range(3):
        house.judge(DOWN, Phase.CONNECT)
    health = house.availability.health["one"]
    for _ in range(6):  # trials that fail, until it is left alone for longer than the interval
        house.clock.advance(health.back_at(house.clock.monotonic()) - house.clock.monotonic())
        house.judge(DOWN, Phase.CONNECT)
    left = health.back_at(house.clock.monotonic()) - house.clock.monotonic()
    assert left == 320
    house.availability.probed(ONE, None, house.clock.monotonic())
    assert house.state is State.HALF_OPEN
    house.judge(DOWN, Phase.CONNECT)
    assert health.back_at(house.clock.monotonic()) - house.clock.monotonic() == 600  # it is left alone for longer


async def test_a_login_that_is_refused_puts_it_asleep_and_no_probe_disturbs_it(house: House) -> None:
    house.prober.finds = REFUSED
    health, slept = None, []
    for _ in range(20):
        before = house.prober.asked
        was_asleep = health is not None and house.state is State.ASLEEP
        await house.pass_time(15 if health is None else INTERVAL)
        health = house.availability.health["one"]
        if house.prober.asked > before:
            slept.append(health.back_at(house.clock.monotonic()) - house.clock.monotonic())
            assert house.state is State.ASLEEP
        else:
            assert was_asleep
    assert slept[:6] == [60, 120, 240, 480, 960, 1920]  # as with mail: each refusal brings the lock nearer
    assert {name for name, _ in house.slept} == {"one"}


async def test_a_quota_that_is_spent_is_not_renewed_by_a_probe(house: House) -> None:
    house.judge(reply(452, "4.2.2", "Over quota"), Phase.MAIL)
    assert house.state is State.ASLEEP
    house.availability.probed(ONE, None, house.clock.monotonic())
    assert house.state is State.ASLEEP


async def test_a_canary_that_is_refused_says_nothing_of_the_upstream(house: House) -> None:
    for _ in range(5):
        house.availability.probed(ONE, Stopped(Phase.RCPT, reply(550, "5.1.1", "nobody")), house.clock.monotonic())
    assert house.state is State.CLOSED


async def test_one_that_does_not_log_in_says_nothing_of_the_login_of_mail(house: House) -> None:
    mail_logs_in = replace(ONE, credentials=Login("me", Secret("s3cret")), probe=ProbeSettings(INTERVAL, login=False))
    wanted = Stopped(Phase.MAIL, reply(530, "5.7.0", "Authentication required"))
    house.availability.probed(mail_logs_in, wanted, house.clock.monotonic())
    assert house.state is State.CLOSED
    house.availability.probed(ONE, wanted, house.clock.monotonic())
    assert house.state is State.ASLEEP


async def test_the_rules_on_replies_of_an_upstream_hold_for_probes(house: House) -> None:
    own = ReplyRule(verdict(Kind.TRANSIENT, "own"), frozenset({Phase.AUTH}), frozenset({535}), frozenset(), None)
    lenient = replace(ONE, replies=ReplyRules([own]))
    house.availability.probed(lenient, Stopped(Phase.AUTH, REFUSED), house.clock.monotonic())
    assert house.state is State.CLOSED


async def test_what_a_reply_means_is_what_the_upstreams_own_rules_say_as_with_mail(house: House) -> None:
    resting = ReplyRule(
        verdict(Kind.QUOTA, "resting", sleep=3600), frozenset({Phase.AUTH}), frozenset({454}), frozenset(), None
    )
    one = replace(ONE, replies=ReplyRules((resting,)))
    house.availability.probed(one, Stopped(Phase.AUTH, reply(454, "4.7.0", "resting")), house.clock.monotonic())
    assert house.state is State.ASLEEP
    health = house.availability.health["one"]
    assert health.back_at(house.clock.monotonic()) - house.clock.monotonic() == 3600


async def test_nothing_goes_to_one_that_is_paused(house: House) -> None:
    house.availability.pause("one", "root")
    await house.pass_time(5 * INTERVAL)
    assert house.prober.asked == 0
    house.availability.resume("one", "root")
    await house.pass_time(INTERVAL)
    assert house.prober.asked == 1


async def test_each_change_of_a_stage_is_told_once(house: House) -> None:
    told: list[tuple[str, Any]] = []

    async def step(finds: Answer | None, wait: float = INTERVAL) -> None:
        house.prober.finds = finds
        with capture_logs() as records:
            await house.pass_time(wait)
        told.extend((r["event"], r["stage"]) for r in records if r["event"].startswith("upstream_stage"))

    await step(DOWN, 15)
    await step(DOWN)
    await step(None)
    await step(None)
    await step(REFUSED)
    assert told == [
        ("upstream_stage_failed", "connect"),
        ("upstream_stage_recovered", "connect"),
        ("upstream_stage_failed", "auth"),
    ]


@pytest.mark.parametrize("trouble", ["is_full", "broken"])
async def test_probes_go_on_when_one_could_not_be_made(house: House, trouble: str) -> None:
    setattr(house.prober, trouble, True)
    await house.pass_time(15)
    assert not house.probes.found
    setattr(house.prober, trouble, False)
    await house.pass_time(INTERVAL)
    assert set(house.probes.found) == {"one"}


async def test_one_under_way_is_broken_off_at_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def probe(upstream: Upstream) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(upstream.name)

    hanging: Callable[..., Any] = probe
    monkeypatch.setattr(house.prober, "probe", hanging)
    await house.pass_time(15)
    await house.pass_time(3 * INTERVAL)  # none is begun beside it
    await house.probes.stop()
    assert ended == ["one"]
