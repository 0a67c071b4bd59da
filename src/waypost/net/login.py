"""Authenticating with an upstream: the secret, the mechanism, the exchange.

Secrets are revealed only in the line that carries them.
"""

import asyncio
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.channel_binding import server_end_point
from waypost.net.dialogue import Dialogue, is_positive
from waypost.observe.metrics import Metrics
from waypost.routing.login import Login, OAuth2
from waypost.routing.route import Timeouts, Upstream
from waypost.smtp import commands as c
from waypost.smtp.mechanisms import ClientExchange, Proof, mechanism, order
from waypost.smtp.reply import Reply
from waypost.smtp.sasl import SaslError, Secret
from waypost.smtp.scram import Binding

if TYPE_CHECKING:
    from waypost.net.tokens import TokenSource

log = structlog.get_logger()

_REFUSED = range(500, 600)

_MIN_SECRET = 4  # characters: what is shorter is part of every other word
_TELLTALE = 16  # characters by which something longer is known, though only a part of it is there


class Logins:
    """What is known of logins at all upstreams: access tokens, and mechanisms that are offered in vain.

    `now` is monotonic, in seconds; `chance` gives a number from 0 to 1.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._metrics = metrics
        self._now = now
        self._chance = chance
        self._sources: dict[OAuth2, TokenSource] = {}
        self._instead: dict[str, tuple[Upstream, str]] = {}

    def close(self) -> None:
        """Gives up requests that are under way."""
        for source in self._sources.values():
            source.close()

    async def secret(self, upstream: Upstream, login: Login, refused: Secret | None = None) -> Secret | Failure:
        """What to authenticate with: the password, or an access token, another one than `refused`."""
        if login.oauth2 is None:
            return login.password or Secret("")
        from waypost.net.oauth import TokenError
        from waypost.net.tokens import TokenSource

        source = self._sources.get(login.oauth2)
        if source is None:
            source = TokenSource(upstream.name, login.oauth2, self._now, self._chance, self._count_token)
            self._sources[login.oauth2] = source
        try:
            return await source.token(refused)
        except TokenError as error:
            return Failure(Phase.AUTH, Cause.LOGIN, f"no access token: {error}")

    async def authenticate(
        self, dialogue: Dialogue, upstream: Upstream, login: Login, secret: Secret, timeouts: Timeouts
    ) -> Stopped | None:
        """AUTH, on a connection that is greeted and secured. None when the upstream says yes."""
        stream = dialogue.stream
        if stream is not None and stream.tls is None and not upstream.allow_plaintext_auth:
            text = "our credentials are not sent in the clear, and the upstream offers no TLS"
            return dialogue.stop(Phase.AUTH, Cause.PLAINTEXT, text)
        tls = upstream.tls
        private = tls.mode in ("starttls", "implicit") and (tls.verify or bool(tls.fingerprints))
        offered = dialogue.engine.extensions.auth
        binding = None
        if stream is not None and any(name.startswith("SCRAM-") for name in (*offered, login.mechanism or "")):
            binding = server_end_point(stream.peer_certificate)
        names = order(
            offered,
            wanted=login.mechanism,
            token=login.oauth2 is not None,
            private=private,
            binding=binding is not None,
            delegate=login.authorize_as is not None,
        )
        if not names:
            wanted = login.mechanism or "which we cannot use with these credentials"
            text = f"AUTH is offered with {', '.join(offered)}, {'not ' if login.mechanism else ''}{wanted}"
            return dialogue.stop(Phase.AUTH, Cause.LOGIN, text)
        proof = Proof(login.username, secret, login.authorize_as, upstream.host, upstream.port)
        known, instead = self._instead.get(upstream.name, (None, ""))
        name = instead if known is upstream and instead in names else names[0]
        if name == "SCRAM-SHA-256" and f"{name}-PLUS" in offered:
            # Offered and not used, as configured: to say that we could, and did not see it, would be taken for the
            # work of somebody in between (RFC 5802 section 6).
            binding = None
        answer = await self._exchange(dialogue, upstream, name, proof, binding, timeouts)
        plain = next((other for other in names if other in ("PLAIN", "LOGIN")), None)
        if plain is not None and name not in ("PLAIN", "LOGIN") and _is_refused(answer, dialogue):
            if private:
                # Many servers offer what their passwords are not stored for. The upstream is who it says, so it
                # may hear the password as it did before.
                answer = await self._exchange(dialogue, upstream, plain, proof, None, timeouts)
                if is_positive(answer):
                    self._instead[upstream.name] = (upstream, plain)
                    _warn(upstream, name, f"set `mechanism: {plain}` below the upstream's `auth`")
            else:
                _warn(upstream, name, f"if the password is right: verified TLS, or `mechanism: {plain}` in its `auth`")
        return None if is_positive(answer) else Stopped(Phase.AUTH, answer)

    async def _exchange(
        self,
        dialogue: Dialogue,
        upstream: Upstream,
        name: str,
        proof: Proof,
        binding: Binding | None,
        timeouts: Timeouts,
    ) -> Answer:
        answer: Answer
        dialogue.watch.note(Phase.AUTH, name)
        try:
            exchange = ClientExchange(name, mechanism(name, proof, secrets.token_urlsafe(24), binding))
            begin = exchange.begin()
            said = [begin.initial or ""]
            answer = await dialogue.ask(begin, Phase.AUTH, timeouts.command)
            while isinstance(answer, Reply) and answer.code == 334:
                response = await _respond(exchange, answer.text)
                said.append(response.text)
                answer = await dialogue.ask(response, Phase.AUTH, timeouts.command)
            if is_positive(answer):
                exchange.finish()
        except SaslError as error:
            answer = dialogue.broken(Phase.AUTH, Cause.LOGIN, f"{name}: {error}")
        else:
            if isinstance(answer, Reply) and not answer.is_positive:
                answer = _without(answer, proof.secret, said)
            if isinstance(answer, Reply) and exchange.complaint:
                answer = Reply(answer.code, (*answer.lines, f"({exchange.complaint})"), answer.enhanced)
        outcome = "succeeded" if is_positive(answer) else "refused" if isinstance(answer, Reply) else "failed"
        log.debug("upstream_login", upstream=upstream.name, mechanism=name, outcome=outcome)
        if self._metrics is not None:
            self._metrics.upstream_logins[upstream.name, name, outcome] += 1
        return answer

    def _count_token(self, upstream: str, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.token_requests[upstream, outcome] += 1


def is_refused(stopped: Stopped | None) -> bool:
    """Whether the upstream did not want our secret, so that a new one may help."""
    if stopped is None or stopped.phase is not Phase.AUTH:
        return False
    return isinstance(stopped.answer, Reply) and stopped.answer.code in _REFUSED


def _warn(upstream: Upstream, name: str, advice: str) -> None:
    log.warning("mechanism_in_vain", upstream=upstream.name, mechanism=name, advice=advice)


def _is_refused(answer: Answer, dialogue: Dialogue) -> bool:
    return isinstance(answer, Reply) and answer.code in _REFUSED and not dialogue.is_closed


def _without(reply: Reply, secret: Secret, said: Iterable[str]) -> Reply:
    """A refusal without what we have said: some servers repeat the command that they do not like, maybe cut off."""
    told = [rf"{re.escape(word[:_TELLTALE])}[A-Za-z0-9+/=]*" for word in said if len(word) >= _MIN_SECRET]
    bare = secret.reveal()
    if len(bare) >= _MIN_SECRET:
        told += [re.escape(bare), rf"{re.escape(bare[:_TELLTALE])}\S*"]
    lines = tuple(re.sub("|".join(told), "...", line) for line in reply.lines) if told else reply.lines
    return reply if lines == reply.lines else Reply(reply.code, lines, reply.enhanced)


async def _respond(exchange: ClientExchange, challenge: str) -> c.AuthResponse:
    if exchange.name.startswith("SCRAM-"):  # thousands of hashes: milliseconds, or more at the server's wish
        return await asyncio.to_thread(exchange.advance, challenge)
    return exchange.advance(challenge)
