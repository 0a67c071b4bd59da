"""`/api/upstreams`, asked over the control socket."""

import getpass

import pytest

from waypost.admin.upstreams import Upstreams
from waypost.mail.outcome import Cause, Failure, Phase
from waypost.routing.probing import DAY, Certificate, Finding, Stage, StageState
from waypost.routing.quota import Quota
from waypost.routing.route import Upstream


async def test_upstreams_of_which_nothing_is_known(parts, ask):
    status, (old, new) = await ask("/api/upstreams")

    assert status == 200
    assert (old["upstream"], new["upstream"]) == ("old", "new")
    assert (old["busy"], old["idle"]) == (1, 2)
    assert new == {
        "upstream": "new",
        "address": "new.example:25",
        "state": "healthy",
        "reason": "",
        "since": None,
        "next_trial_at": None,
        "busy": 0,
        "idle": 0,
        "latency_seconds": None,
        "error_share": 0.0,
        "quotas": [],
        "probe": None,
        "certificate": None,
    }


async def test_one_that_fails_and_what_was_found_there(parts, ask):
    new = Upstream("new", "new.example", 25)
    for _ in range(3):
        down = Failure(Phase.CONNECT, Cause.UNREACHABLE, "refused")
        parts.candidates.judge(new, Phase.CONNECT, down, 0.0)
    now = parts.clock.time()
    parts.clock.advance(2)
    stages = (Stage(Phase.RESOLVE, StageState.OK, "192.0.2.1", 0.25), Stage(Phase.CONNECT, StageState.FAILED, "why"))
    parts.found["new"] = Finding("new", now, stages)
    parts.certificates["new"] = Certificate(now + 10 * DAY + 60, ("new.example",), "00ff")

    _, (_, found) = await ask("/api/upstreams")

    assert (found["state"], found["reason"]) == ("failing", "unreachable at connect: refused")
    assert (found["since"], found["next_trial_at"]) == ("2001-09-09T01:46:40.000Z", "2001-09-09T01:46:45.000Z")
    assert found["error_share"] > 0.4
    assert found["probe"] == {
        "at": "2001-09-09T01:46:40.000Z",
        "ok": False,
        "tls": None,
        "stages": [
            {"stage": "resolve", "state": "ok", "text": "192.0.2.1", "seconds": 0.25},
            {"stage": "connect", "state": "failed", "text": "why", "seconds": 0.0},
        ],
    }
    assert found["certificate"]["days_left"] == 10
    assert found["certificate"]["names"] == ["new.example"]


async def test_one_whose_quota_is_spent(parts):
    small = Upstream("new", "new.example", 25, quotas=(Quota(1, "day"), Quota(9, "hour")))
    nothing = dict.fromkeys(("connections", "found", "certificates"), dict)
    upstreams = Upstreams({"new": small}, parts.candidates, parts.clock, pools=parts.pools, **nothing)
    (await parts.candidates.quotas.reserve(small, 1)).settle(1)

    assert upstreams.rows()[0]["state"] == "spent"
    assert isinstance(await parts.candidates.quotas.reserve(small, 1), Failure)

    (found,) = upstreams.rows()

    assert (found["state"], found["since"]) == ("spent", None)
    assert found["next_trial_at"] == found["quotas"][0]["next_at"] > "2001-09-10"


async def test_pause_and_resume(parts, ask):
    async def act(action, *names):
        return await ask("/api/upstreams/actions", {"action": action, "upstreams": list(names)})

    assert await act("pause", "new") == (200, [{"upstream": "new", "changed": True, "remembered": True}])
    assert await act("pause", "new", "old") == (
        200,
        [
            {"upstream": "new", "changed": False, "remembered": True},
            {"upstream": "old", "changed": True, "remembered": True},
        ],
    )
    _, (_, found) = await ask("/api/upstreams")
    assert (found["state"], found["reason"]) == ("paused", f"paused by {getpass.getuser()}")
    assert found["since"] == "2001-09-09T01:46:40.000Z"
    assert await act("resume", "new") == (200, [{"upstream": "new", "changed": True, "remembered": True}])
    assert set(parts.candidates.availability.paused) == {"old"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"action": "pause", "upstreams": ["new", "nwe"]}, "there is no upstream 'nwe'; there are: old, new"),
        ({"action": "stop", "upstreams": ["new"]}, "an action is"),
        ({"action": "pause", "upstreams": []}, "one at least"),
        ({"action": "pause", "upstreams": "new"}, "must be a list"),
        ({"action": "pause", "upstreams": [1]}, "must be a list"),
        ({"action": "pause"}, "an action is"),
        ({"action": "pause", "upstreams": ["new"], "why": "x"}, "an action is"),
        (b"[]", "is not a JSON object"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(parts, ask, body, words):
    status, (said,) = await ask("/api/upstreams/actions", body)

    assert status == 400
    assert words in said["error"]
    assert not parts.candidates.availability.paused


async def test_a_pause_of_one_that_is_not_configured_any_more_is_shown_and_can_be_ended(parts, ask):
    parts.candidates.availability.pause("gone", "ann")
    _, rows = await ask("/api/upstreams")
    assert [row["upstream"] for row in rows] == ["old", "new", "gone"]
    assert (rows[2]["state"], rows[2]["reason"]) == ("paused", "paused by ann, and not configured")
    assert rows[2].keys() == rows[0].keys()
    status, _ = await ask("/api/upstreams/actions", {"action": "pause", "upstreams": ["gone"]})
    assert status == 400
    status, lines = await ask("/api/upstreams/actions", {"action": "resume", "upstreams": ["gone"]})
    assert (status, lines) == (200, [{"upstream": "gone", "changed": True, "remembered": True}])
    assert not parts.candidates.availability.paused
    status, _ = await ask("/api/upstreams/actions", {"action": "resume", "upstreams": ["gone"]})
    assert status == 400
