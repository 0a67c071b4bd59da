"""`/api/queue`, asked over the control socket."""

import asyncio
import getpass
import json
from dataclasses import replace

import pytest

from rig.control import DAY, Asker, Parts, UnixConnection, id_of
from waypost.admin import queue as queue_module
from waypost.admin.queue import lanes_of_upstream
from waypost.delivery.spool import SpoolError
from waypost.mail.content import MemoryContent
from waypost.routing.route import Copy, Member, Pool, Route, Upstream
from waypost.store.sqlite import SqliteSpool


async def test_a_delivery_as_it_is_listed(parts, ask):
    id_ = await parts.put("copy:new", to=("bob@example.net", "ann@example.org"))
    await parts.fail(reason="451 4.3.2 not now")

    status, lines = await ask("/api/queue")

    assert status == 200
    assert lines == [
        {
            "number": 1,
            "id": id_,
            "lane": "copy:new",
            "role": "copy",
            "route": "all",
            "state": "queued",
            "attempts": 1,
            "received_at": "2001-09-09T01:46:40.000Z",
            "next_attempt_at": "2001-09-09T01:56:40.000Z",
            "expires_at": "2001-09-10T01:46:40.000Z",
            "reverse_path": "app@example.com",
            "recipients": ["bob@example.net", "ann@example.org"],
            "size": 18,
            "reason": "451 4.3.2 not now",
            "in_doubt": None,
        }
    ]


async def test_nothing_is_an_empty_list(ask):
    assert await ask.octets("/api/queue") == (200, b"")
    assert await ask.octets("/api/queue/summary") == (200, b"")


@pytest.fixture
async def various(parts):
    """Six deliveries that differ: 1 old and dead, 2 and 3 of one message, 4 running, 5 held, 6 queued from <>."""
    await parts.put("copy:new", sender="old@example.com")
    await parts.fail("copy:new", "550 5.1.1 no such mailbox", dead=True)
    parts.clock.advance(3600)
    await parts.put("primary:all", "copy:archive")
    await parts.fail("primary:all", "421 4.3.2 Shutting down")
    await parts.put("copy:new", to=("ann@example.org",))
    await parts.spool.claim("copy:new", parts.clock.time(), 1)
    await parts.put("primary:other", to=("eve@example.org", "bob@example.net"))
    await parts.spool.alter([5], "hold", parts.clock.time(), 0)
    await parts.put("copy:archive", sender="<>")


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("?number=3&number=1&number=99", [1, 3]),
        ("?state=dead", [1]),
        ("?state=running&state=held", [4, 5]),
        ("?lane=copy:archive", [3, 6]),
        ("?lane=copy:archive&state=dead", []),
        ("?route=all&lane=primary:all", [2]),
        ("?route=other", []),
        ("?upstream=new", [1, 4]),
        ("?upstream=new&upstream=old", [1, 2, 4]),
        ("?upstream=new&lane=primary:all", []),
        ("?upstream=idle", []),
        ("?older_than=1800", [1]),
        ("?newer_than=1800", [2, 3, 4, 5, 6]),
        ("?received_before=1000000001&older_than=0", [1]),
        ("?sender=OLD@*", [1]),
        ("?sender=%3C%3E", [6]),
        ("?recipient=*@example.org", [4, 5]),
        ("?error=shutting%20down", [2]),
        (f"?id={id_of(2, 1_000_003_600)}", [2, 3]),
        (f"?id={id_of(2, 1_000_003_600).lower()}&state=queued", [2, 3]),
        ("?after=4", [5, 6]),
        ("?after=1&limit=2", [2, 3]),
        ("?limit=1000000000", [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_filters(various, ask, query, numbers):
    assert await ask.numbers(query) == numbers


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?colour=red", "there is no parameter 'colour'; there are after, error, id,"),
        ("?state=asleep", "there is no state 'asleep'; there are queued, running, held, dead"),
        ("?lane=new", "'new' is not a lane: write primary:ROUTE or copy:POOL"),
        ("?lane=copy:", "'copy:' is not a lane"),
        ("?upstream=nobody", "there is no upstream 'nobody' in the configuration"),
        ("?number=abc", "'abc' is not the number of a delivery"),
        ("?number=1_0", "'1_0' is not the number of a delivery"),
        ("?number=%D9%A1", "is not the number of a delivery"),
        ("?number=-1", "'-1' is not the number"),
        ("?number=9999999999999999999", "is not the number"),
        ("?id=abc", "'abc' is not an id of Waypost: a message id has 16 characters, not 3"),
        ("?older_than=2h", "older_than is a number of seconds, not '2h'"),
        ("?older_than=nan", "older_than is a number of seconds"),
        ("?older_than=1&older_than=2", "older_than can be given once only"),
        ("?limit=0", "limit is a whole number, at least 1"),
        ("?after=x", "'x' is not the number"),
        ("?sender=", "sender is empty"),
        ("?sender=a%00b", "sender has characters in it that cannot be printed"),
        ("?error=" + "x" * 1001, "error has 1001 characters, at most 1000"),
    ],
)
async def test_a_question_that_makes_no_sense(ask, query, said):
    status, [answer] = await ask(f"/api/queue{query}")

    assert status == 400
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", None, 404),
        ("/api", None, 404),
        ("/api/queue", "DELETE", 405),
        ("/api/queue/actions", "GET", 400),
        ("/api/queue/1/other", None, 404),
        ("/metrics", None, 404),
        ("/api/queue/7", None, 404),
        ("/api/queue/7/content", None, 404),
        ("/api/queue/x", None, 400),
        ("/api/queue/1_0/content", None, 400),
        ("/api/queue/summary?limit=3", None, 400),
    ],
)
async def test_errors_are_json_with_a_sentence(ask, path, method, status):
    answered, [answer] = await ask(path, method=method)

    assert answered == status
    assert set(answer) == {"error"}
    assert " " in answer["error"]


async def test_a_long_list_comes_whole_and_page_by_page(parts, ask, monkeypatch):
    monkeypatch.setattr(queue_module, "PAGE", 7)
    for _ in range(40):
        await parts.put()

    assert await ask.numbers() == list(range(1, 41))
    assert await ask.numbers("?after=10&limit=20") == list(range(11, 31))


async def test_a_list_ends_although_mail_keeps_coming_in(parts, ask, monkeypatch):
    await parts.put()
    find = parts.spool.find

    async def found_and_more(*arguments, **options):
        parts.clock.advance(1)
        await parts.put()
        return await find(*arguments, **options)

    monkeypatch.setattr(parts.spool, "find", found_and_more)

    assert 1 in await asyncio.wait_for(ask.numbers(), 10)


async def test_show(parts, ask):
    content = b"Subject: =?x?=\r\nFrom: \xe4\r\n..Odd: dot\r\n\r\n..text\r\n"
    await parts.put("copy:new", content=content)

    status, [found] = await ask("/api/queue/1")

    assert status == 200
    assert found["number"] == 1
    assert found["header"] == "Subject: =?x?=\r\nFrom: \\xe4\r\n.Odd: dot\r\n"
    assert found["header_cut"] is False
    assert found["envelope"] == {
        "reverse_path": "app@example.com",
        "parameters": [],
        "recipients": [{"address": "bob@example.net", "parameters": []}],
    }
    assert found["client"]["account"] == "nextcloud"


@pytest.mark.parametrize(
    ("content", "header", "cut"),
    [
        (b"", "", False),
        (b"\r\nno header\r\n", "", False),
        (b"X: y\r\n", "X: y\r\n", False),
        (b"X: y\r\n\r\n", "X: y\r\n", False),
        (b"X: " + b"y" * 70000 + b"\r\n", "X: " + "y" * (65536 - 3), True),
    ],
)
async def test_odd_header_sections(parts, ask, content, header, cut):
    await parts.put("copy:new", content=content)

    _, [found] = await ask("/api/queue/1")

    assert (found["header"], found["header_cut"]) == (header, cut)


async def test_content_is_the_message_without_stuffing(parts, ask):
    await parts.put("copy:new", content=b"A: b\r\n\r\n..\r\n.\xff.\r\n" + b"x" * 600_000 + b"\r\n..\r\n")

    status, octets = await ask.octets("/api/queue/1/content")

    assert status == 200
    assert octets == b"A: b\r\n\r\n.\r\n\xff.\r\n" + b"x" * 600_000 + b"\r\n.\r\n"


async def test_summary(parts, ask):
    for number in range(4):
        await parts.put("copy:new")
        await parts.fail("copy:new", f"451 4.3.2 try later (id 4Zk8s2d{number})")
    await parts.put("copy:new", "primary:all")
    await parts.fail("copy:new", "550 5.1.1 no such mailbox", dead=True)
    await parts.spool.alter([1], "hold", parts.clock.time(), 0)

    status, lines = await ask("/api/queue/summary")

    assert status == 200
    assert lines == [
        {
            "lane": "copy:new",
            "queued": 3,
            "held": 1,
            "dead": 1,
            "oldest_received_at": "2001-09-09T01:46:40.000Z",
            "sampled": 5,
            "reasons": [
                {"text": "451 4.3.2 try later (id *)", "count": 4},
                {"text": "550 5.1.1 no such mailbox", "count": 1},
            ],
        },
        {
            "lane": "primary:all",
            "queued": 1,
            "held": 0,
            "dead": 0,
            "oldest_received_at": "2001-09-09T01:46:40.000Z",
            "sampled": 0,
            "reasons": [],
        },
    ]
    assert (await ask("/api/queue/summary?upstream=old"))[1] == lines[1:]
    counted = (await ask("/api/queue/summary?state=dead"))[1]
    assert [(line["lane"], line["queued"], line["dead"]) for line in counted] == [("copy:new", 0, 1)]
    assert counted[0]["oldest_received_at"] is None


async def test_a_filter_counts_as_the_store_does(various, ask):
    """The two ways to a summary agree."""
    _, whole = await ask("/api/queue/summary")
    _, counted = await ask("/api/queue/summary?newer_than=999999")

    assert counted == whole


async def test_an_action_is_done_and_told_of(parts, ask):
    first, second = await parts.put(), await parts.put()
    await parts.fail()

    lines, last = await ask.act("hold", number=2)

    assert lines == [{"number": 2, "id": second, "lane": "copy:new", "state": "queued", "done": True}]
    assert last == {"finished": True, "action": "hold", "dry_run": False, "matched": 1, "done": 1}
    assert parts.altered == [("hold", 2, second, getpass.getuser())]
    assert await ask.numbers("?state=held") == [2]

    await ask.act("delete", id=first)
    assert parts.altered[1:] == [("delete", 1, first, getpass.getuser())]
    assert await ask.numbers() == [2]


async def test_release_and_retry_make_it_due(parts, ask):
    for _ in range(3):
        await parts.put()
    await parts.fail(dead=True)
    await parts.put()
    await parts.spool.alter([4], "hold", 0, 0)
    woken = []
    parts.spool.on_due = woken.append

    _, last = await ask.act("release", all=True)
    assert (last["matched"], last["done"], woken) == (1, 1, ["copy:new"])

    _, last = await ask.act("retry", state="dead", limit=2)
    assert (last["matched"], last["done"]) == (2, 2)
    claimed = await parts.spool.claim("copy:new", parts.clock.time(), 10)
    assert sorted(delivery.id for delivery in claimed) == [1, 2, 4]
    assert {delivery.id: delivery.expires_at for delivery in claimed} == {
        1: parts.clock.time() + 5 * DAY,
        2: parts.clock.time() + 5 * DAY,
        4: parts.clock.time() + DAY,
    }


async def test_what_runs_is_left_alone(parts, ask):
    await parts.put()
    await parts.spool.claim("copy:new", parts.clock.time(), 1)

    for action in ("retry", "hold", "release", "delete"):
        lines, last = await ask.act(action, number=1)
        assert [line["done"] for line in lines] == [False]
        assert last["done"] == 0
    lines, last = await ask.act("delete", all=True)
    assert (lines, last["matched"]) == ([], 0)
    assert parts.altered == []


async def test_a_dry_run_says_the_same_and_does_nothing(various, parts, ask):
    for action in ("retry", "hold", "release", "delete"):
        before = await ask("/api/queue")
        dry, said = await ask.act(action, all=True, dry_run=True)
        assert await ask("/api/queue") == before
        assert parts.altered == []
        assert said["dry_run"] is True
        assert {"number", "recipients", "done"} <= set(dry[0])
        assert [line["number"] for line in dry if line["done"]] == {
            "retry": [1, 2, 3, 5, 6],
            "hold": [2, 3, 6],
            "release": [5],
            "delete": [1, 2, 3, 5, 6],
        }[action]


async def test_many_are_changed_in_pages(parts, ask, monkeypatch):
    monkeypatch.setattr(queue_module, "PAGE", 10)
    for _ in range(35):
        await parts.put()
    altered = []
    alter = parts.spool.alter

    async def counted(ids, *arguments):
        altered.append(len(ids))
        return await alter(ids, *arguments)

    monkeypatch.setattr(parts.spool, "alter", counted)

    lines, last = await ask.act("delete", all=True)

    assert len(lines) == last["done"] == 35
    assert altered == [10, 10, 10, 5]
    assert await ask.numbers() == []


async def test_an_error_in_the_middle_is_the_last_line(parts, ask, monkeypatch):
    monkeypatch.setattr(queue_module, "PAGE", 10)
    for _ in range(25):
        await parts.put()
    alter = parts.spool.alter

    async def failing(ids, *arguments):
        if 11 in ids:
            raise SpoolError("the disk is full")
        return await alter(ids, *arguments)

    monkeypatch.setattr(parts.spool, "alter", failing)

    status, lines = await ask("/api/queue/actions", {"action": "delete", "all": True})

    assert status == 200
    assert len(lines) == 11
    assert lines[-1] == {"error": "the disk is full"}
    assert len(parts.altered) == 10


async def test_a_spool_that_cannot_write_is_503(parts, ask):
    await parts.put()
    parts.spool.broken = "the disk is full"

    assert await ask("/api/queue/actions", {"action": "hold", "all": True}) == (503, [{"error": "the disk is full"}])


class Unreadable(MemoryContent):
    """Content whose file has gone."""

    def head(self, limit):
        raise FileNotFoundError(2, "No such file or directory", "content/1")

    def chunks(self, start=0):
        yield self.head(start)


async def test_content_that_is_gone_is_said_to_be(parts, ask, monkeypatch):
    await parts.put()
    entry, delivery = await parts.spool.read(1)
    unreadable = replace(delivery, message=replace(delivery.message, content=Unreadable(b"")))

    async def read(number):
        return entry, unreadable

    monkeypatch.setattr(parts.spool, "read", read)

    status, [answer] = await ask("/api/queue/1")

    assert status == 503
    assert answer["error"] == "the content cannot be read: [Errno 2] No such file or directory: 'content/1'"
    status, [answer] = await ask("/api/queue/1/content")
    assert status == 503


async def test_a_fault_of_ours_is_an_answer_too(parts, ask, monkeypatch, caplog):
    monkeypatch.setattr(parts.spool, "lanes", lambda: 1 / 0)

    status, [answer] = await ask("/api/queue/summary")

    assert (status, answer["error"][:24]) == (500, "a fault of Waypost's own")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b'"\xff"', "the body is not JSON"),
        ({}, "action is one of retry, hold, release, delete, not None"),
        ({"action": "explode"}, "not 'explode'"),
        ({"action": ["retry"]}, "action is one of"),
        ({"action": {"a": "x" * 1000}}, "action is one of"),
        ({"action": "retry"}, 'say so with "all": true'),
        ({"action": "retry", "all": 1}, "all is true or false"),
        ({"action": "retry", "all": True, "dry_run": "no"}, "dry_run is true or false"),
        ({"action": "retry", "filter": []}, "filter is a JSON object"),
        ({"action": "retry", "filter": {"number": {}}}, "number is a text, a number, or a list of these"),
        ({"action": "retry", "filter": {"number": True}}, "number is a text, a number, or a list of these"),
        ({"action": "retry", "filter": {"number": 1.5}}, "'1.5' is not the number of a delivery"),
        ({"action": "retry", "filter": {"limit": 3}}, 'say so with "all": true'),
        ({"action": "retry", "filter": {"sate": "dead"}}, "there is no parameter 'sate'"),
        ({"action": "retry", "filter": {"number": []}}, "number has no value"),
        ({"action": "retry", "filter": {"number": ["1"] * 10_001}}, "number is given 10001 times, at most 10000"),
        ({"action": "retry", "all": True, "dryrun": True}, "there is no 'dryrun' in an action"),
        ({"action": "retry", "filter": {"error": "x" * 2_000_000}}, "the body is larger than"),
    ],
)
async def test_an_action_that_makes_no_sense_does_nothing(parts, ask, body, said):
    await parts.put()

    status, [answer] = await ask("/api/queue/actions", body)

    assert status == 400
    assert said in answer["error"]
    assert parts.altered == []


async def test_who_goes_away_in_mid_action_leaves_nothing_untold(parts, ask, control, monkeypatch):
    await parts.put()
    began, go_on = asyncio.Event(), asyncio.Event()
    alter = parts.spool.alter

    async def slow(*arguments):
        began.set()
        await go_on.wait()
        return await alter(*arguments)

    monkeypatch.setattr(parts.spool, "alter", slow)
    connection = UnixConnection(parts.path)
    body = json.dumps({"action": "delete", "all": True})
    await asyncio.to_thread(connection.request, "POST", "/api/queue/actions", body)
    await began.wait()
    connection.close()
    stopping = asyncio.create_task(control.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping

    assert [altered[:2] for altered in parts.altered] == [("delete", 1)]


def test_the_lanes_of_an_upstream():
    a, b, c = (Upstream(name, "host", 25) for name in "abc")
    pools = {name: Pool(name, (Member(up),)) for name, up in (("a", a), ("b", b), ("c", c))}
    pools["both"] = Pool("both", (Member(a), Member(b)))
    routes = {
        "one": Route("one", pools["a"], (Copy(pools["b"]),)),
        "two": Route("two", pools["both"]),
    }

    assert lanes_of_upstream(pools, routes, "a") == {"copy:a", "copy:both", "primary:one", "primary:two"}
    assert lanes_of_upstream(pools, routes, "b") == {"copy:b", "copy:both", "primary:two"}
    assert lanes_of_upstream(pools, routes, "c") == {"copy:c"}
    assert lanes_of_upstream(pools, routes, "d") is None


async def test_many_deliveries_in_the_store_that_is_the_default(tmp_path):
    parts = Parts(tmp_path)
    parts.spool = SqliteSpool(tmp_path / "spool", on_due=lambda lane: None)
    await parts.spool.open()
    control = parts.control()
    control.start()
    ask = Asker(parts.path)
    try:
        for _ in range(500):
            await parts.put("copy:new", "copy:archive")
        numbers = await ask.numbers()
        assert len(set(numbers)) == 1000
        assert numbers == sorted(numbers)

        assert (await ask.act("hold", lane="copy:new"))[1]["done"] == 500
        assert (await ask.act("release", all=True, limit=450))[1]["done"] == 450
        _, lanes = await ask("/api/queue/summary")
        assert [(lane["lane"], lane["queued"], lane["held"]) for lane in lanes] == [
            ("copy:archive", 500, 0),
            ("copy:new", 450, 50),
        ]
        assert lanes == (await ask("/api/queue/summary?newer_than=999"))[1]
        status, octets = await ask.octets(f"/api/queue/{numbers[7]}/content")
        assert (status, octets) == (200, b"Subject: x\r\n\r\nHi\r\n")
        assert (await ask.act("delete", all=True))[1]["done"] == 1000
        assert await ask.numbers() == []
        assert len(parts.altered) == 1950
    finally:
        await control.stop()
        await parts.spool.close()
