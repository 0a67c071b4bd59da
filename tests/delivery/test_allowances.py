"""How much accounts may send: never above it, nothing lost, across periods, restarts and instances."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.clock import FakeClock
from waypost.delivery.allowances import KIND, Allowances, Share
from waypost.delivery.metered import Metered
from waypost.delivery.spool import Note
from waypost.mail.message import Client
from waypost.observe.maillog import MailLog
from waypost.observe.metrics import Metrics
from waypost.routing.route import Account, Allowance
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.reply import Reply, reply

HOUR = 3600


def account(*limits: tuple[str, int, int], name: str = "ann") -> Account:
    return Account(name, limits=tuple(Allowance(*limit) for limit in limits))  # type: ignore[arg-type]


class Stage:
    """One instance, or several with the notes between them."""

    def __init__(self, *accounts: Account, others: Account | None = None, noted: bool = True) -> None:
        self.clock = FakeClock(start=1_000_000_800)  # a full hour of UTC, and no full day
        self.notes: dict[str, Note] = {}
        self.spent: Counter[tuple[str, str]] = Counter()
        self.accounts = {each.name: each for each in accounts}
        self.others = others
        self.noted = noted
        self.it = self.instance("one")

    def instance(self, name: str) -> Allowances:
        put = self.put if self.noted else None
        made = Allowances(self.accounts, self.others, self.clock, put, name, lambda *who: self.spent.update([who]))
        made.learn(self.notes.values())
        return made

    def put(self, note: Note) -> None:
        assert note.kind == KIND
        assert note.until > self.clock.time() - HOUR
        self.notes[note.key] = note

    def send(self, recipients: int = 1, name: str = "ann", it: Allowances | None = None) -> Reply | None:
        """One message, from MAIL to its acceptance; the first refusal otherwise."""
        share = (it or self.it).share(name)
        if isinstance(share, Reply):
            return share
        for _ in range(recipients if share is not None else 0):
            assert share is not None
            refusal = share.reserve("recipients")
            if refusal is not None:
                share.released()
                return refusal
        if share is not None:
            share.accepted()
        return None


def test_messages_beyond_the_limit_hear_450_until_the_next_period() -> None:
    stage = Stage(account(("messages", 2, HOUR)))
    assert [stage.send() for _ in range(2)] == [None, None]
    refusal = stage.send()
    assert refusal is not None
    assert str(refusal) == "450 4.7.1 This account may send 2 messages per hour; try again later"
    assert stage.spent == {("ann", "messages"): 1}
    stage.clock.advance(HOUR - 1)
    assert stage.send() == refusal
    stage.clock.advance(1)
    assert stage.send() is None


def test_recipients_beyond_the_limit_hear_452() -> None:
    stage = Stage(account(("recipients", 3, 86400)))
    assert stage.send(2) is None
    refusal = stage.send(2)
    assert refusal is not None
    assert str(refusal) == "452 4.7.1 This account may send 3 recipients per day; try again later"
    assert stage.send(1) is None, "what was refused has used nothing"
    assert stage.send(1) is not None


def test_the_strictest_of_several_limits_decides() -> None:
    stage = Stage(account(("messages", 2, HOUR), ("messages", 3, 86400)))
    assert [stage.send() is None for _ in range(3)] == [True, True, False]
    stage.clock.advance(HOUR)
    assert [stage.send() is None for _ in range(2)] == [True, False]


def test_what_was_not_accepted_is_given_back_and_counts_meanwhile() -> None:
    stage = Stage(account(("messages", 1, HOUR), ("recipients", 2, HOUR)))
    share = stage.it.share("ann")
    assert isinstance(share, Share)
    assert share.reserve("recipients") is None
    assert share.reserve("recipients") is None
    assert stage.send() is not None, "it is under way"
    share.give_back(1)
    assert share.reserve("recipients") is None
    share.released()
    share.released()
    share.accepted()
    assert stage.send(2) is None
    assert stage.send() is not None


def test_without_limits_there_is_nothing_to_do() -> None:
    stage = Stage(Account("ann"))
    assert not stage.it
    assert stage.it.share("ann") is None
    assert stage.it.share(None) is None
    assert stage.it.share("nobody") is None


def test_accounts_of_the_file_have_each_their_own_count() -> None:
    stage = Stage(others=account(("messages", 1, HOUR), name=""))
    assert stage.it
    assert [stage.send(name=name) is None for name in ("ann", "bob", "ann")] == [True, True, False]


def test_counts_outlive_a_restart() -> None:
    stage = Stage(account(("messages", 5, HOUR)))
    for _ in range(3):
        stage.send()
    assert not stage.notes, "not with each message"
    stage.clock.advance(1)
    assert [note.value for note in stage.notes.values()] == [f"{1_000_000_800 // HOUR} 3"]
    stage.send()
    stage.it.note_now()
    again = stage.instance("two")
    assert [stage.send(it=again) is None for _ in range(2)] == [True, False]


def test_notes_of_another_period_or_limit_are_nothing() -> None:
    stage = Stage(account(("messages", 5, HOUR)))
    for _ in range(5):
        stage.send()
    stage.clock.advance(HOUR)
    assert stage.send(it=stage.instance("two")) is None
    for odd in (Note(KIND, "x", "y", 0), Note("sleep", "ann messages/3600 a", "9 9", 0), Note(KIND, "a b c", "1", 0)):
        stage.it.learn([odd])
    stage.it.learn([Note(KIND, "ann messages/3600 z", "\u0663 9", 0), Note(KIND, "bob messages/3600 z", "9 9", 0)])
    assert stage.send() is None


def test_instances_hear_of_each_other_within_a_second() -> None:
    stage = Stage(account(("messages", 4, HOUR)))
    two = stage.instance("two")
    assert stage.send() is None
    assert stage.send(it=two) is None
    stage.clock.advance(1)
    for each in (stage.it, two):
        each.learn(stage.notes.values())
    assert [stage.send() is None for _ in range(3)] == [True, True, False]
    stage.clock.advance(1)
    two.learn(stage.notes.values())
    assert stage.send(it=two) is not None


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    stage = Stage(account(("messages", 1, HOUR)))
    stage.send()
    stage.clock.advance(-HOUR)
    assert stage.send() is not None


def test_a_clock_that_was_far_ahead_shuts_nobody_out() -> None:
    stage = Stage(account(("messages", 2, HOUR)))
    stage.clock.advance(400 * 86400)
    assert [stage.send() for _ in range(2)] == [None, None]
    stage.clock.advance(-400 * 86400)
    assert stage.send() is None
    assert stage.send() is None
    assert stage.send() is not None
    stage.clock.advance(HOUR)
    assert stage.send() is None


def test_without_a_spool_nothing_is_noted() -> None:
    stage = Stage(account(("messages", 1, HOUR)), noted=False)
    stage.send()
    stage.clock.advance(2)
    assert stage.notes == {}


actions = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["accept", "release"]), st.integers(0, 10)),
        st.tuples(st.just("wait"), st.integers(1, 5000)),
    ),
    max_size=60,
)


@given(actions, st.integers(1, 4), st.integers(1, 6))
def test_never_above_the_limit_in_any_period(made: list[tuple[str, int]], messages: int, recipients: int) -> None:
    stage = Stage(account(("messages", messages, HOUR), ("recipients", recipients, HOUR)))
    accepted: Counter[tuple[str, int]] = Counter()
    open_: list[tuple[Share, int]] = []
    for what, number in made:
        if what == "begin":
            share = stage.it.share("ann")
            if isinstance(share, Share):
                open_.append((share, sum(share.reserve("recipients") is None for _ in range(number))))
        elif what == "wait":
            stage.clock.advance(number)
        elif open_:
            share, taken = open_.pop(number % len(open_))
            if what == "accept":
                share.accepted()
                accepted["messages", int(stage.clock.time() // HOUR)] += 1
                accepted["recipients", int(stage.clock.time() // HOUR)] += taken
            else:
                share.released()
    for (what, _), count in accepted.items():
        assert count <= (messages if what == "messages" else recipients)
    for share, _ in open_:
        share.released()
    stage.clock.advance(HOUR)
    assert [stage.send(0) is None for _ in range(messages + 1)] == [True] * messages + [False], "nothing was lost"


@pytest.mark.parametrize("period", [1, 60, 3600, 86400])
def test_periods_have_names(period: int) -> None:
    stage = Stage(account(("messages", 1, period)))
    stage.send()
    assert f"per {({1: 'second', 60: 'minute', 3600: 'hour', 86400: 'day'})[period]};" in str(stage.send())


class Inner:
    """A transaction whose client hears of each recipient: the last one is refused after the content."""

    async def recipients(self, commands: Sequence[c.Rcpt]) -> Sequence[Reply]:
        return [reply(250, "2.1.5", "OK")] * len(commands)

    async def finish(self) -> Sequence[Reply]:
        return (reply(250, "2.0.0", "OK"), reply(452, "4.2.2", "Full"))

    def write(self, data: bytes) -> None: ...
    def left(self) -> None: ...
    def told(self, answers: Sequence[Reply], *, lost: bool) -> None: ...
    def refuse(self, answer: Reply) -> None: ...
    def abandon(self, why: str) -> None: ...


async def test_those_who_are_refused_after_the_content_do_not_count() -> None:
    stage = Stage(account(("recipients", 2, HOUR), ("messages", 9, HOUR)))
    share = stage.it.share("ann")
    assert isinstance(share, Share)
    mail = c.Mail(Address("a", "example.com"))
    metered = Metered(Inner(), share, Client("l", "unix", 0), mail, MailLog([].append, Metrics()))
    assert len(await metered.recipients([c.Rcpt(Address("b", "x.example"))] * 2)) == 2
    assert [answer.code for answer in await metered.finish()] == [250, 452]
    assert stage.send(1) is None, "one of the two is left"
    assert stage.send(1) is not None
