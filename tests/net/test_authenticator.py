"""Whoever checks claims: what is computed, how often, how late, and what is remembered. Time is moved by hand."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from waypost.net.accounts import Accounts
from waypost.net.authentication import LIMITED, Authenticator
from waypost.net.client_certificates import Certificates, ShownCertificate
from waypost.net.passwords import Stored, from_configuration
from waypost.net.settings import LoginLimits
from waypost.routing.route import Account
from waypost.smtp.sasl import Credentials, Secret
from waypost.smtp.sasl_server import Asserted
from waypost.smtp.scram_server import Proven, Verifier

HASHES = {
    "ann": "$5$abc$sCOGUciM.GdmYMCUvmUcgu03oRH87O0clF96.9mwWGB",
    "bob": "$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem",
    "carl": "x",
}
HOME, AWAY = "192.0.2.1", "198.51.100.7"


class Stage:
    """An authenticator, its clock, and what it computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, passwords: dict[str, str], **limits: float) -> None:
        self.now = 0.0
        self.together = False
        """Whether what happens next happens at one moment."""
        self.slept: list[float] = []
        self.computed: Counter[str] = Counter()
        monkeypatch.setattr("waypost.net.accounts.from_configuration", self._counted)
        accounts = {name: Account(name, password) for name, password in passwords.items()}
        self.it = Authenticator(
            Accounts(accounts, lambda: self.now),
            lambda: self.now,
            limits=LoginLimits(**limits),  # type: ignore[arg-type]
            sleep=self._sleep,
        )

    def _counted(self, text: str) -> Stored:
        stored = from_configuration(text)

        def fits(password: bytes) -> bool:
            self.computed[stored.scheme] += 1
            return stored.fits(password)

        return replace(stored, fits=fits)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += 0 if self.together else seconds
        await asyncio.sleep(0)

    async def says(self, name: str, password: str, address: str = HOME) -> str | None:
        """Who that is, `limited`, or nobody."""
        found = await self.it.check(Credentials(name, Secret(password)), address)
        return "limited" if found is LIMITED else found.name if isinstance(found, Account) else None


async def test_every_scheme_lets_its_account_in_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    for name in HASHES:
        assert await stage.says(name, "x") == name
        assert await stage.says(name, "y") is None
    assert await stage.says("", "x") is None


async def test_a_wrong_name_costs_as_many_hashes_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """By counting, not by the clock: each guess computes exactly one hash, whoever it is about."""
    for scheme, text in HASHES.items():
        stage = Stage(monkeypatch, {"ann": text})
        assert await stage.says("ann", "wrong") is None
        known, known_slept = stage.computed.copy(), stage.slept.copy()
        stage.computed.clear()
        stage.slept.clear()
        assert await stage.says("nobody", "wrong", AWAY) is None
        assert stage.computed == known, scheme
        assert stage.slept == known_slept, scheme
        assert known.total() == 1


async def test_unknown_names_are_like_the_accounts_in_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES, failures=10**6)
    for number in range(60):
        await stage.says(f"name{number}", "wrong")
    assert set(stage.computed) == {"sha256-crypt", "bcrypt", "PLAIN"}
    assert stage.computed.total() == 60
    before = stage.computed.copy()
    await stage.says("name1", "wrong")
    once = stage.computed - before
    await stage.says("name1", "wrong")
    assert stage.computed - before == once + once, "always the same for one name"


async def test_a_password_that_is_too_long_is_wrong_and_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, {"ann": "x" * 2000})
    assert await stage.says("ann", "x" * 2000) is None
    assert stage.computed.total() == 1


async def test_a_success_is_remembered_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    for _ in range(3):
        assert await stage.says("ann", "x") == "ann"
    assert stage.computed.total() == 1
    stage.now += 301
    assert await stage.says("ann", "x") == "ann"
    assert stage.computed.total() == 2


async def test_guessing_gets_slower_and_the_right_password_works_after_the_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, HASHES)
    for _ in range(5):
        assert await stage.says("carl", "wrong") is None
    late = 0.5
    assert stage.slept == [late, late, 0.5, late, 1, late, 2, late]
    assert await stage.says("carl", "x") == "carl"
    assert stage.slept[-1] == 4
    stage.now += 301
    stage.slept.clear()
    assert await stage.says("carl", "x") == "carl"
    assert stage.slept == []


async def test_many_guesses_at_once_are_no_way_around_the_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    stage.together = True
    said = await asyncio.gather(*(stage.says("ann", f"guess{number}") for number in range(50)))
    assert Counter(said)["limited"] > 40
    assert stage.computed["sha256-crypt"] < 10


async def test_strangers_do_not_lock_the_account_out_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    assert await stage.says("carl", "x", HOME) == "carl"
    for number in range(20):
        await stage.says("carl", "wrong", f"198.51.100.{number}")
    stage.now += 301  # what was remembered is old
    stage.slept.clear()
    assert await stage.says("carl", "x", HOME) == "carl"
    assert stage.slept == []


async def test_many_guesses_at_once_are_turned_away_without_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    for _ in range(8):
        await stage.says("bob", "wrong")
    stage.computed.clear()
    stage.now += 20
    stage.together = True
    answers = await asyncio.gather(*(stage.says("bob", f"wrong{number}") for number in range(10)))
    assert Counter(answers) == {None: 2, "limited": 8}
    assert stage.computed.total() == 2


async def test_proofs_are_counted_like_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, {"carl": "x"})
    for _ in range(4):
        assert isinstance(await stage.it.verifier("carl", HOME), Verifier)
        assert await stage.it.check(Proven("carl", False), HOME) is None
    assert stage.slept == [0.5, 0.5, 0.5, 0.5, 1, 0.5]
    found = await stage.it.check(Proven("carl", True), HOME)
    assert isinstance(found, Account)
    assert await stage.it.check(Proven("nobody", True), HOME) is None
    for _ in range(8):
        await stage.it.check(Proven("dora", False), AWAY)
    stage.together = True
    answers = [await stage.it.verifier("dora", AWAY) for _ in range(3)]
    assert [answer is LIMITED for answer in answers] == [False, False, True]


async def test_a_certificate_is_whose_it_is() -> None:
    ann = Account("ann", certificates=("ab" * 32,))
    it = Authenticator(Accounts({"ann": ann}, lambda: 0.0), lambda: 0.0, certificates=Certificates({"ann": ann}))
    assert it.certified(ShownCertificate("ab" * 32, frozenset(), frozenset())) is ann
    assert it.certified(ShownCertificate("cd" * 32, frozenset(), frozenset())) is None
    assert await it.check(Asserted(""), HOME, ann) is ann
    assert await it.check(Asserted("ann"), HOME, ann) is ann


async def test_a_certificate_stands_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, HASHES)
    ann = Account("ann")
    assert await stage.it.check(Asserted("bob"), HOME, ann) is None
    assert await stage.it.check(Asserted(""), HOME) is None
    assert stage.slept == [0.5, 0.5]


async def test_an_account_without_a_password_lets_no_password_in() -> None:
    it = Authenticator(Accounts({"ann": Account("ann")}, lambda: 0.0), lambda: 0.0, sleep=lambda _: asyncio.sleep(0))
    assert it.mechanisms(()) == ()
    assert await it.check(Credentials("ann", Secret("")), HOME) is None
