"""Checking what clients claim to be.

argon2 takes about a tenth of a second and 64 MiB, so it runs in a thread, at most two at once, and a success
is remembered for a while under a key that only this process knows. Failures take as long for accounts that do
not exist, and each further one of an address or an account is answered later.
"""

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping

from waypost.routing.route import Account
from waypost.smtp.sasl import Credentials

_AT_ONCE = 2
_REMEMBERED = 300.0  # seconds that a success is valid
_MAX_REMEMBERED = 10_000
_FIRST_DELAY = 0.5  # seconds
_MAX_DELAY = 16.0
_FORGIVEN = 600.0  # seconds after which failures count no more
_MAX_TRACKED = 50_000


class Authenticator:
    """Says whether credentials are an account's. `now` is a monotonic clock, in seconds."""

    def __init__(self, accounts: Mapping[str, Account], now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._threads = asyncio.Semaphore(_AT_ONCE)
        self._uses_argon2 = any(account.password.startswith("$argon2") for account in accounts.values())

    def account(self, username: str) -> Account | None:
        """The account of this name, or None, for a proxy that has checked who it is."""
        return self._accounts.get(username)

    async def check(self, credentials: Credentials, address: str) -> Account | None:
        """The account, or None; the answer to a wrong password comes late. `address` is the client's."""
        account = self._accounts.get(credentials.username)
        password = credentials.password.reveal()
        fingerprint = self._fingerprint(account, credentials.username, password)
        until = self._known.get(fingerprint)
        if account is not None and until is not None and self._now() < until:
            return account
        # The delay comes before the check, so that guessing costs it whether or not the guess is right.
        delay = max(self._delay(f"address {address}"), self._delay(f"account {credentials.username}"))
        if delay:
            await asyncio.sleep(delay)
        if await self._matches(account, password):
            self._remember(fingerprint)
            self._failures.pop(f"address {address}", None)
            self._failures.pop(f"account {credentials.username}", None)
            return account
        self._count(f"address {address}")
        self._count(f"account {credentials.username}")
        await asyncio.sleep(_FIRST_DELAY)
        return None

    async def _matches(self, account: Account | None, password: str) -> bool:
        if account is None:
            # An unknown account takes as long as a known one, and no password is right.
            if self._uses_argon2:
                async with self._threads:
                    await asyncio.to_thread(_verify_argon2, "", password)
            return False
        if account.password.startswith("$argon2"):
            async with self._threads:
                return await asyncio.to_thread(_verify_argon2, account.password, password)
        return hmac.compare_digest(account.password.encode("utf-8"), password.encode("utf-8"))

    def _fingerprint(self, account: Account | None, username: str, password: str) -> bytes:
        stored = account.password if account is not None else ""
        text = "\0".join((username, stored, password)).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).digest()

    def _remember(self, fingerprint: bytes) -> None:
        self._known[fingerprint] = self._now() + _REMEMBERED
        self._known.move_to_end(fingerprint)
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _delay(self, who: str) -> float:
        count, last = self._failures.get(who, (0, 0.0))
        if count < 2 or self._now() - last > _FORGIVEN:
            return 0.0
        return float(min(_MAX_DELAY, _FIRST_DELAY * 2 ** (count - 2)))

    def _count(self, who: str) -> None:
        count, last = self._failures.get(who, (0, 0.0))
        now = self._now()
        self._failures[who] = (1 if now - last > _FORGIVEN else min(count + 1, 30), now)
        self._failures.move_to_end(who)
        if len(self._failures) > _MAX_TRACKED:
            self._failures.popitem(last=False)


def _verify_argon2(stored: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    hasher = PasswordHasher()
    try:
        hasher.verify(stored or _decoy(hasher), password)
        return bool(stored)
    except (Argon2Error, InvalidHashError):
        return False


_decoys: list[str] = []


def _decoy(hasher: object) -> str:
    """A hash that no password matches, so that an unknown account takes as long as a known one."""
    if not _decoys:
        from argon2 import PasswordHasher

        _decoys.append(PasswordHasher().hash(os.urandom(16).hex()))
    return _decoys[0]
