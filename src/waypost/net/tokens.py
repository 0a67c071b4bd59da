"""Access tokens, fetched once for everybody, kept while they live, and renewed before they end."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from waypost.net.oauth import Granted, TokenError, fetch_token
from waypost.routing.login import OAuth2
from waypost.smtp.sasl import Secret

log = structlog.get_logger()

Outcome = Literal["fetched", "failed", "revoked"]

_MAX_EARLY = 300.0  # seconds before its end in which a token is renewed, at most
_SHARE = 0.15  # of its life
_SKEW = 15.0  # seconds before its end in which it is not used: it has to arrive as well
_PAUSE = 30.0  # seconds between two tries to renew a token that still lives
_FIRST_REST = 2.0  # seconds for which a failure is answered from memory, doubled each time
_LAST_REST = 60.0


def read_refresh_token(path: str) -> Secret:
    """The refresh token in a file. Raises `TokenError`."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(65536).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise TokenError(f"the refresh token cannot be read from {path}: {why}") from None
    if not text or not text.isprintable():
        raise TokenError(f"there is no refresh token in {path}")
    return Secret(text)


def write_refresh_token(path: str, token: Secret) -> None:
    """Puts a refresh token into a file that its owner alone can read: as a whole, or not at all. Raises `OSError`.

    Written by root, it belongs to whom the file before it did, or the folder.
    """
    target = os.path.realpath(path)
    owner = os.stat(target if os.path.exists(target) else os.path.dirname(target))
    descriptor, temporary = tempfile.mkstemp(prefix=".waypost-", dir=os.path.dirname(target) or ".")  # mode 0600
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{token.reveal()}\n")
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:  # `sudo waypost oauth login`, for a Waypost that has a user of its own
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


@dataclass(frozen=True, slots=True)
class _Held:
    token: Secret
    renew_at: float
    ends_at: float


class TokenSource:
    """The access tokens of one login. `now` is monotonic, in seconds; `chance` gives a number from 0 to 1.

    `told` hears of each request to the endpoint and how it ended.
    """

    def __init__(
        self,
        name: str,
        oauth: OAuth2,
        now: Callable[[], float],
        chance: Callable[[], float],
        told: Callable[[str, Outcome], None],
    ) -> None:
        self._name = name
        self._oauth = oauth
        self._now = now
        self._chance = chance
        self._told = told
        self._held: _Held | None = None
        self._running: asyncio.Task[Secret | TokenError] | None = None
        self._failure: TokenError | None = None
        self._rest = 0.0
        self._rests_until = 0.0
        self._configured: Secret | None = None  # the refresh token as it was read
        self._rotated: Secret | None = None  # and the one that took its place, when it could not be written

    async def token(self, refused: Secret | None = None) -> Secret:
        """An access token: at once when there is one, else with everybody who waits for the same request.

        `refused` is one that the upstream did not want, so another is asked for. Raises `TokenError`.
        """
        now, held = self._now(), self._held
        if held is not None and now < held.ends_at and held.token != refused:
            if now >= held.renew_at:
                self._renew()  # in the background: this one is still good
            return held.token
        if self._failure is not None and self._running is None and now < self._rests_until:
            raise self._failure
        found = await asyncio.shield(self._renew())
        if isinstance(found, TokenError):
            raise found
        return found

    def close(self) -> None:
        """Gives up a request that is under way."""
        if self._running is not None:
            self._running.cancel()

    def _renew(self) -> "asyncio.Task[Secret | TokenError]":
        if self._running is None:
            self._running = asyncio.create_task(self._request())
        return self._running

    async def _request(self) -> Secret | TokenError:
        try:
            refresh = None
            if self._oauth.grant == "refresh_token":
                refresh = await asyncio.to_thread(self._refresh_token)
            new = await fetch_token(self._oauth, refresh)
            self._learn(new)
            if new.refresh is not None and new.refresh != refresh:
                await self._keep(new.refresh)  # before anybody asks again: the old one may be worth nothing now
        except TokenError as error:
            self._failed(error)
            return error
        finally:
            self._running = None
        log.info("token_fetched", upstream=self._name, lifetime=round(new.lifetime))
        self._told(self._name, "fetched")
        return new.access

    def _learn(self, new: Granted) -> None:
        now = self._now()
        early = min(_MAX_EARLY, new.lifetime * _SHARE) * (1 + self._chance())  # instances do not all ask at once
        ends_at = now + max(new.lifetime - _SKEW, new.lifetime / 2)
        self._held = _Held(new.access, min(now + new.lifetime - early, ends_at), ends_at)
        self._failure, self._rest = None, 0.0

    def _failed(self, error: TokenError) -> None:
        now = self._now()
        self._failure = error
        self._rest = min(max(_FIRST_REST, self._rest * 2), _LAST_REST)
        self._rests_until = now + self._rest
        held = self._held
        if held is not None:
            self._held = _Held(held.token, now + _PAUSE, held.ends_at)
        revoked = error.code == "invalid_grant"
        advice = f"`waypost oauth login {self._name}` asks for another refresh token" if revoked else None
        more = {} if advice is None else {"advice": advice}
        log.error("token_not_fetched", upstream=self._name, reason=str(error), **more)
        self._told(self._name, "revoked" if revoked else "failed")

    # -- the refresh token

    def _refresh_token(self) -> Secret | None:
        """The one that is valid: what the endpoint gave last, unless somebody has configured another since."""
        path = self._oauth.refresh_token_file
        configured = self._oauth.refresh_token if path is None else read_refresh_token(path)
        if configured != self._configured:
            self._configured, self._rotated = configured, None
        return self._rotated or configured

    def _replace(self, path: str, rotated: Secret) -> None:
        """Writes it, unless somebody has logged in anew while the endpoint was asked: what he has written counts."""
        try:
            if read_refresh_token(path) != self._configured:
                return
        except TokenError:
            pass  # the file has gone, or was emptied
        write_refresh_token(path, rotated)

    async def _keep(self, rotated: Secret) -> None:
        """Keeps a refresh token that the endpoint gave in the place of the old one."""
        path = self._oauth.refresh_token_file
        why = "it is not in a file: set `refresh_token_file`"
        if path is not None:
            try:
                await asyncio.to_thread(self._replace, path, rotated)
                return
            except OSError as error:
                why = f"{path} cannot be written: {error.strerror}"
        self._rotated = rotated
        log.warning("refresh_token_not_kept", upstream=self._name, reason=why, advice="it is lost at the next restart")
