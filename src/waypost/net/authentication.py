"""Checking what clients claim to be.

argon2 takes about a tenth of a second and 64 MiB, so slow hashes are computed in a thread, at most two at once, and a
success is remembered for a while under a key that only this process knows. Failures take as long for accounts that do
not exist, and each further one of an address or an account is answered later (`throttle`).
"""

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from waypost.net.accounts import Accounts, Entry
from waypost.net.client_certificates import Certificates, ShownCertificate
from waypost.net.passwords import MAX_PASSWORD, Stored
from waypost.net.settings import LoginLimits
from waypost.net.throttle import Throttle
from waypost.routing.route import Account
from waypost.smtp.sasl import Credentials
from waypost.smtp.sasl_server import Asserted, Claim
from waypost.smtp.scram_server import Proven, Verifier

_AT_ONCE = 2
_REMEMBERED = 300.0  # seconds that a success is valid
_MAX_REMEMBERED = 10_000
_LATE = 0.5  # seconds after which a failure is answered


@dataclass(frozen=True, slots=True)
class Limited:
    """Too many have failed before: nothing was checked."""


LIMITED = Limited()


class Authenticator:
    """Says whether a claim is true. `now` is a monotonic clock, in seconds; `sleep` waits for some."""

    def __init__(
        self,
        accounts: Accounts,
        now: Callable[[], float],
        *,
        certificates: Certificates | None = None,
        limits: LoginLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._accounts = accounts
        self._certificates = certificates or Certificates({})
        self._now = now
        self._sleep = sleep
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._throttle = Throttle(limits or LoginLimits())
        self._threads = asyncio.Semaphore(_AT_ONCE)

    def account(self, username: str) -> Account | None:
        """The account of this name, or None, for a proxy that has checked who it is."""
        self._accounts.refresh()
        entry = self._accounts.find(username)
        return self._certificates.named(username) if entry is None else entry.account

    def mechanisms(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """What a listener that wants these offers; without any, what every account can use."""
        return self._accounts.mechanisms(wanted)

    def certified(self, shown: ShownCertificate) -> Account | None:
        """Whose certificate this is. It has been verified."""
        return self._certificates.find(shown)

    async def verifier(self, username: str, address: str) -> Verifier | Limited:
        """What SCRAM needs of an account, or something like it; late, when there were failures before."""
        self._accounts.refresh()
        if not await self._wait(address, username):
            return LIMITED
        return self._accounts.verifier(username)

    async def check(self, claim: Claim, address: str, certified: Account | None = None) -> Account | Limited | None:
        """The account, or None; the answer to a wrong claim comes late.

        `address` is the client's, and `certified` the account of the certificate that it has shown.
        """
        self._accounts.refresh()
        if isinstance(claim, Credentials):
            return await self._check_password(claim, address)
        if isinstance(claim, Asserted):
            if certified is not None and claim.authzid in ("", certified.name):
                return certified
            await self._failed(address, claim.authzid)
            return None
        return await self._check_proof(claim, address)

    async def _check_password(self, credentials: Credentials, address: str) -> Account | Limited | None:
        username = credentials.username
        entry = self._accounts.find(username)
        password = credentials.password.reveal().encode("utf-8", "surrogatepass")
        fingerprint = self._fingerprint(entry, username, password)
        until = self._known.get(fingerprint)
        if entry is not None and until is not None and self._now() < until:
            return entry.account
        stored = self._accounts.decoy(username) if entry is None else entry.stored
        fits = await self._guess(stored, password, address, username)
        if fits is None:
            return LIMITED
        if entry is None or not fits:
            await self._failed(address, username)
            return None
        self._remember(fingerprint)
        self._throttle.succeeded(address, username, self._now())
        return entry.account

    async def _check_proof(self, claim: Proven, address: str) -> Account | None:
        entry = self._accounts.find(claim.username)
        if entry is None or not claim.valid or not entry.stored.takes_scram:
            await self._failed(address, claim.username)
            return None
        self._throttle.succeeded(address, claim.username, self._now())
        return entry.account

    async def _wait(self, address: str, username: str) -> bool:
        delay = self._throttle.delay(address, username, self._now())
        if delay:
            await self._sleep(delay)
        return delay is not None

    async def _failed(self, address: str, username: str) -> None:
        self._throttle.failed(address, username, self._now())
        await self._sleep(_LATE)

    async def _guess(self, stored: Stored | None, password: bytes, address: str, username: str) -> bool | None:
        """Whether a password fits; None when too many have not.

        The delay comes before the check, so that guessing costs it whether or not the guess is right; and again when
        others have failed while this one waited for a thread: a hundred at once are no way around it.
        """
        is_long = len(password) > MAX_PASSWORD
        if is_long:
            password = b""  # which takes as long as any, and fits nothing: what is stored is never of an empty one
        while await self._wait(address, username):
            if stored is None or not stored.is_slow:
                return stored is not None and stored.fits(password) and not is_long
            failures = self._throttle.failures(address, username, self._now())
            async with self._threads:
                if self._throttle.failures(address, username, self._now()) <= failures:
                    return await asyncio.to_thread(stored.fits, password) and not is_long
        return None

    def _fingerprint(self, entry: Entry | None, username: str, password: bytes) -> bytes:
        stored = entry.stored.identity if entry is not None else ""
        text = "\0".join((username, stored)).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text + b"\0" + password, hashlib.sha256).digest()

    def _remember(self, fingerprint: bytes) -> None:
        self._known[fingerprint] = self._now() + _REMEMBERED
        self._known.move_to_end(fingerprint)
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
