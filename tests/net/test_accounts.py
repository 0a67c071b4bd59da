"""Accounts from files: what is read, what is refused and where, and what names that are no accounts are told."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from waypost.net.accounts import Accounts
from waypost.net.accounts_file import BadLine, parse, read_file
from waypost.net.settings import AccountsFile
from waypost.routing.route import Account
from waypost.smtp.scram_server import Verifier

VERIFIER = Verifier.derive("pencil", b"0123456789abcdef", 5000)
HTPASSWD = b"""\
# comment
ann:$2y$05$gzhzP1z1lVRL5tlnAjPFGeJLfjp34KGVpSNi6Yc8b56fmOJKtqpem

bob:$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.\r
carl:$2y$05$cut
:x
no colon
dora:
ann:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=
J\xc3\xbcrgen:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=
\xff:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=
tab\there:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=
"""


def test_an_htpasswd_file() -> None:
    content = parse(HTPASSWD, "htpasswd")
    assert set(content.passwords) == {"ann", "bob", "J\u00fcrgen"}
    assert all(stored.fits(b"x") for stored in content.passwords.values())
    assert content.passwords["ann"].scheme == "bcrypt"
    assert content.weak == ("apr1", "{SHA}")
    assert [(line.number, line.account) for line in content.bad] == [
        (5, "carl"), (6, ""), (7, ""), (8, ""), (9, "ann"), (11, ""), (12, ""),
    ]  # fmt: skip
    assert content.bad[0] == BadLine(5, "carl", "begins like a bcrypt hash but is none")
    assert content.bad[4].why == "the account is in line 2 already, which counts"


def test_a_passwd_file_of_dovecot() -> None:
    content = parse(
        b"\xef\xbb\xbfann@example.com:{PLAIN}x:1000:1000::/home/ann::userdb_quota=1G\n"
        b"bob:{SSHA256}6qdiQmpX1WOMpRQGjHSbQMBmucTrA15BIEfVHB9OA8+kv1Yv\n"
        b"carl:{NTLM}0123:::\n",
        "dovecot",
    )
    assert {name: stored.fits(b"x") for name, stored in content.passwords.items()} == {
        "ann@example.com": True,
        "bob": True,
    }
    assert content.bad == (BadLine(3, "carl", "the scheme NTLM is not known here"),)


def test_what_is_no_text_is_refused_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes(b"ann:\0x")
    with pytest.raises(ValueError, match="zero"):
        read_file(str(tmp_path / "users"), "htpasswd")


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Users:
    """A file of accounts, and whoever reads it."""

    def __init__(self, path: Path, text: str, accounts: dict[str, Account] | None = None) -> None:
        self.path = path
        path.write_text(text)
        self.time = Time()
        self.template = Account("", "", "all", ("*@example.com",))
        file = AccountsFile(str(path), "dovecot")
        self.accounts = Accounts(accounts or {}, self.time, file, self.template)

    def change(self, text: str) -> None:
        """Puts another file in its place, as programs do that mean well."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)
        self.look()

    def look(self) -> None:
        self.time.now += 2
        self.accounts.refresh()

    def fits(self, name: str, password: str) -> bool | None:
        entry = self.accounts.find(name)
        return None if entry is None else entry.stored.fits(password.encode())


@pytest.fixture
def users(tmp_path: Path) -> Callable[..., Users]:
    """Makes a file of accounts."""
    return lambda text, **more: Users(tmp_path / "users", text, **more)


def test_accounts_of_the_file_are_like_its_section_says(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n")
    entry = it.accounts.find("ann")
    assert entry is not None
    assert entry.account == Account("ann", "", "all", ("*@example.com",))


def test_the_file_is_read_again_when_it_changes(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n")
    with capture_logs() as logs:
        it.look()
        assert logs == []
        it.change("ann:{PLAIN}other\nbob:{PLAIN}y\nbroken\n")
    assert (it.fits("ann", "x"), it.fits("ann", "other"), it.fits("bob", "y")) == (False, True, True)
    refused, read = logs
    assert refused["event"] == "account_refused"
    assert refused["file"] == f"{it.path}:3"
    assert (read["event"], read["accounts"], read["refused"]) == ("accounts_read", 2, 1)
    it.change("bob:{PLAIN}y\n")
    assert it.fits("ann", "other") is None


def test_it_looks_once_a_second(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n")
    it.path.write_text("ann:{PLAIN}longer\n")
    it.time.now += 0.5
    it.accounts.refresh()
    assert it.fits("ann", "x")
    it.look()
    assert it.fits("ann", "longer")


def test_a_file_that_is_gone_or_broken_leaves_the_old_accounts(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n")
    with capture_logs() as logs:
        os.unlink(it.path)
        it.look()
        it.look()
        assert [record["event"] for record in logs] == ["accounts_not_read"], "said once"
        it.path.write_bytes(b"\0")
        it.look()
        assert it.fits("ann", "x")
        it.path.write_text("ann:{PLAIN}y\n")
        it.look()
    assert it.fits("ann", "y")


def test_a_file_that_is_being_written_shuts_nobody_out(users: Callable[..., Users]) -> None:
    """`htpasswd` writes over the old file: for a moment it is empty, or ends in the middle of a line."""
    it = users("ann:{PLAIN}x\nbob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n")
    for half in ("", "ann:{PLA", "new:{PLAIN}z\nann:{PLAIN}x\nbob:{SHA}Efatjs"):
        it.path.write_text(half)
        it.look()
        assert (it.fits("ann", "x"), it.fits("bob", "x"), it.fits("new", "z")) == (True, True, None)
    it.path.write_text("new:{PLAIN}z\nann:{PLAIN}x\nbob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n")
    it.look()
    assert (it.fits("ann", "x"), it.fits("bob", "x"), it.fits("new", "z")) == (True, True, True)


def test_whom_somebody_has_taken_out_is_out_at_the_second_look(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\nbob:{PLAIN}y\n")
    it.path.write_text("bob:{PLAIN}y\n")
    it.look()
    it.look()
    assert (it.fits("ann", "x"), it.fits("bob", "y")) == (None, True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_large_file_keeps_nobody_waiting(users: Callable[..., Users]) -> None:
    many = "".join(f"user{number}:{{PLAIN}}{number}\n" for number in range(20_000))
    it = users("ann:{PLAIN}x\n")
    it.change(many)
    assert (it.fits("ann", "x"), it.fits("user7", "7")) == (True, None), "the old ones count until it is read"
    it.look()
    await until(lambda: it.fits("user7", "7"))
    assert (it.fits("ann", "x"), len(it.accounts)) == (None, 20_000)
    with capture_logs() as logs:
        it.change(many + "\0")
        await until(lambda: logs)
    assert [record["event"] for record in logs] == ["accounts_not_read"]
    assert it.fits("user7", "7")


def test_the_configuration_comes_first(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n", accounts={"ann": Account("ann", "configured")})
    assert it.fits("ann", "configured")


def test_scram_is_offered_when_every_account_can_use_it(users: Callable[..., Users]) -> None:
    it = users(f"ann:{{PLAIN}}x\nbob:{VERIFIER.text()}\n")
    assert it.accounts.mechanisms(()) == ("PLAIN", "LOGIN", "SCRAM-SHA-256")
    it.change("ann:{PLAIN}x\nbob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n")
    assert it.accounts.mechanisms(()) == ("PLAIN", "LOGIN")
    assert it.accounts.mechanisms(("SCRAM-SHA-256", "PLAIN")) == ("SCRAM-SHA-256", "PLAIN")
    it.change("bob:{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=\n")
    assert it.accounts.mechanisms(("SCRAM-SHA-256", "PLAIN", "EXTERNAL")) == ("PLAIN",)
    it.change("# nobody\n")
    assert it.accounts.mechanisms(()) == ()


def test_unknown_names_have_a_salt_that_stays_and_looks_like_the_others(users: Callable[..., Users]) -> None:
    text = f"bob:{VERIFIER.text()}\nann:{{SHA}}EfatjsUqKYSrqv18O1FlA3hcIHI=\n"
    first, second = users(text), users(text)
    assert first.accounts.verifier("bob") == VERIFIER
    for name in ("nobody", "ann", ""):
        fake = first.accounts.verifier(name)
        assert fake == second.accounts.verifier(name), "the same after a restart"
        assert (len(fake.salt), fake.iterations) == (16, 5000)
        assert fake.salt != VERIFIER.salt
        assert not fake.fits("pencil")
    assert first.accounts.verifier("nobody").salt != first.accounts.verifier("nobodx").salt


def test_a_password_in_plain_text_serves_scram(users: Callable[..., Users]) -> None:
    it = users("ann:{PLAIN}x\n")
    verifier = it.accounts.verifier("ann")
    assert verifier.fits("x")
    assert verifier is it.accounts.verifier("ann"), "derived once"
    it.change("ann:{PLAIN}y\n")
    assert it.accounts.verifier("ann").fits("y")
    fake = it.accounts.verifier("nobody")
    assert (len(fake.salt), fake.iterations) == (len(verifier.salt), verifier.iterations)


def test_deriving_happens_as_often_for_unknown_names(
    users: Callable[..., Users], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = users("ann:{PLAIN}x\n")
    derived: list[bytes] = []
    derive = Verifier.derive

    def counted(password: str, salt: bytes, iterations: int = 4096) -> Verifier:
        derived.append(salt)
        return derive(password, salt, iterations)

    monkeypatch.setattr(Verifier, "derive", counted)
    for name in ("ann", "nobody"):
        before = len(derived)
        it.accounts.verifier(name)
        it.accounts.verifier(name)
        assert len(derived) == before + 1
