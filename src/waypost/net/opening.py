"""Opening a session with an upstream: connect, greeting, TLS, EHLO; then AUTH (`login`)."""

import asyncio
import ssl
from functools import partial

from waypost.mail.message import Client
from waypost.mail.outcome import Answer, Cause, Failure, Phase, Stopped
from waypost.net.certificates import CertificateError, fingerprint, upstream_context
from waypost.net.connect import ResolveError, connect, connect_unix, reason, resolve
from waypost.net.dialogue import Dialogue, is_positive
from waypost.net.introducing import hello_name, proxy_header, xclient
from waypost.net.login import Logins, is_refused
from waypost.net.stream import StreamTimeoutError
from waypost.routing.login import Login
from waypost.routing.route import Timeouts, Upstream
from waypost.smtp import commands as c
from waypost.smtp.errors import ProtocolError
from waypost.smtp.reply import Reply
from waypost.smtp.sasl import Secret


async def open_session(
    dialogue: Dialogue,
    upstream: Upstream,
    hostname: str,
    timeouts: Timeouts,
    logins: Logins,
    client: Client | None = None,
) -> Stopped | None:
    """Connects, greets, starts TLS and authenticates as configured. A PROXY header announces `client`.

    Returns None when the connection is ready, else what went wrong, with the reply where there was one.
    """
    login = upstream.credentials
    if login is None:
        return await _greet(dialogue, upstream, hostname, timeouts, client)
    secret = await logins.secret(upstream, login)  # first: without a token there is nothing to connect for
    if isinstance(secret, Failure):
        return Stopped(Phase.AUTH, secret)
    stopped = await _greet(dialogue, upstream, hostname, timeouts, client)
    if stopped is None:
        stopped, other = await _log_in(dialogue, upstream, login, secret, timeouts, logins)
        if other is not None and stopped is not None and _has_gone(stopped.answer):
            dialogue.restart()  # some hang up after a refusal
            stopped = await _greet(dialogue, upstream, hostname, timeouts, client)
            stopped = stopped or await logins.authenticate(dialogue, upstream, login, other, timeouts)
    return stopped


async def _log_in(
    dialogue: Dialogue, upstream: Upstream, login: Login, secret: Secret, timeouts: Timeouts, logins: Logins
) -> tuple[Stopped | None, Secret | None]:
    """AUTH, and once more with another token when the first is refused; what came of it, and that other token."""
    stopped = await logins.authenticate(dialogue, upstream, login, secret, timeouts)
    if login.oauth2 is None or not is_refused(stopped):
        return stopped, None
    # A token may be worth nothing before its time. One other is tried, once.
    other = await logins.secret(upstream, login, refused=secret)
    if isinstance(other, Failure):
        dialogue.abort()
        return Stopped(Phase.AUTH, other), None
    if dialogue.is_closed:
        return dialogue.stop(Phase.AUTH, Cause.CLOSED, "the upstream hung up after refusing a token"), other
    return await logins.authenticate(dialogue, upstream, login, other, timeouts), other


def _has_gone(answer: Answer) -> bool:
    return answer.code == 421 if isinstance(answer, Reply) else answer.cause is Cause.CLOSED


async def _greet(
    dialogue: Dialogue, upstream: Upstream, hostname: str, timeouts: Timeouts, client: Client | None
) -> Stopped | None:
    """Everything before AUTH."""
    # A task of its own: asyncio.timeout wants one.
    problem = await asyncio.create_task(_connect(dialogue, upstream, timeouts))
    if dialogue.stream is not None:
        dialogue.stream.write(proxy_header(upstream.client_address, client, dialogue.stream))
    if problem is None and upstream.tls.mode == "implicit":
        problem = await _start_tls(dialogue, upstream, timeouts)
    if problem is not None:
        return Stopped(problem.phase, problem)
    (greeting,) = await dialogue.answers((Phase.GREETING,), timeouts.greeting)
    dialogue.watch.note(Phase.GREETING, str(greeting))
    if not is_positive(greeting):
        return Stopped(Phase.GREETING, greeting)
    refused = await _hello(dialogue, upstream, hostname, timeouts)
    if refused is None and upstream.tls.mode in ("opportunistic", "starttls"):
        refused = await _upgrade(dialogue, upstream, hostname, timeouts)
    return refused


async def introduce(
    dialogue: Dialogue, upstream: Upstream, client: Client, hostname: str, timeouts: Timeouts, logins: Logins
) -> Stopped | None:
    """Says by XCLIENT who the client is, after which the session starts over; None, or what went wrong.

    A refusal counts as one of MAIL: it is this client that the upstream does not want, not us.
    """
    command = xclient(client, dialogue.engine.extensions.xclient)
    answer = await dialogue.ask(command, Phase.MAIL, timeouts.command)
    if not is_positive(answer):
        return Stopped(Phase.MAIL, answer)
    stopped = await _hello(dialogue, upstream, hello_name(client, hostname), timeouts)
    login = upstream.credentials
    if stopped is not None or login is None:
        return stopped
    secret = await logins.secret(upstream, login)
    if isinstance(secret, Failure):
        return Stopped(Phase.AUTH, secret)
    stopped, _ = await _log_in(dialogue, upstream, login, secret, timeouts, logins)
    return stopped


async def _connect(dialogue: Dialogue, upstream: Upstream, timeouts: Timeouts) -> Failure | None:
    phase = Phase.RESOLVE
    dialogue.watch.start()
    try:
        async with asyncio.timeout(timeouts.connect):
            if upstream.is_unix:
                phase = Phase.CONNECT
                dialogue.stream = await connect_unix(upstream.host)
                return None
            endpoints = await resolve(upstream.host, upstream.port)
            dialogue.watch.lap(phase)
            dialogue.watch.note(phase, ", ".join(host for host, _ in endpoints))
            phase = Phase.CONNECT
            dialogue.stream = await connect(endpoints, partial(dialogue.watch.note, phase))
    except TimeoutError:
        return Failure(phase, Cause.TIMEOUT, f"no connection within {timeouts.connect:g} s")
    except ResolveError as error:
        return Failure(Phase.RESOLVE, Cause.UNREACHABLE, str(error))
    except OSError as error:
        return Failure(Phase.CONNECT, Cause.UNREACHABLE, f"the upstream cannot be reached: {reason(error)}")
    finally:
        dialogue.watch.lap(phase)
    return None


async def _hello(dialogue: Dialogue, upstream: Upstream, hostname: str, timeouts: Timeouts) -> Stopped | None:
    if upstream.lmtp:
        answer = await dialogue.ask(c.Lhlo(hostname), Phase.EHLO, timeouts.command)
        return None if is_positive(answer) else Stopped(Phase.EHLO, answer)
    answer = await dialogue.ask(c.Ehlo(hostname), Phase.EHLO, timeouts.command)
    if isinstance(answer, Reply) and answer.code in (500, 502, 504):  # RFC 5321 section 3.2
        answer = await dialogue.ask(c.Helo(hostname), Phase.EHLO, timeouts.command)
    return None if is_positive(answer) else Stopped(Phase.EHLO, answer)


async def _upgrade(dialogue: Dialogue, upstream: Upstream, hostname: str, timeouts: Timeouts) -> Stopped | None:
    required = upstream.tls.mode == "starttls"
    if not dialogue.engine.extensions.starttls:
        return dialogue.stop(Phase.STARTTLS, Cause.TLS, "STARTTLS is required and not offered") if required else None
    answer = await dialogue.ask(c.StartTls(), Phase.STARTTLS, timeouts.command)
    if not is_positive(answer):
        return Stopped(Phase.STARTTLS, answer) if required or isinstance(answer, Failure) else None
    try:
        dialogue.engine.tls_started()
    except ProtocolError as error:
        return dialogue.stop(Phase.STARTTLS, Cause.PROTOCOL, str(error))
    problem = await _start_tls(dialogue, upstream, timeouts)
    if problem is not None:
        return Stopped(problem.phase, problem)
    return await _hello(dialogue, upstream, hostname, timeouts)


async def _start_tls(dialogue: Dialogue, upstream: Upstream, timeouts: Timeouts) -> Failure | None:
    tls, stream = upstream.tls, dialogue.stream
    if stream is None:
        return Failure(Phase.TLS, Cause.CLOSED, "the connection is closed")
    dialogue.watch.start()
    try:
        context = upstream_context(tls)
        name = tls.server_name or (None if upstream.is_unix else upstream.host)
        await stream.start_tls(context, timeouts.greeting, server=False, server_name=name)
    except StreamTimeoutError:
        return dialogue.broken(Phase.TLS, Cause.TIMEOUT, "the TLS handshake did not end")
    except (ssl.CertificateError, CertificateError) as error:
        return dialogue.broken(Phase.TLS, Cause.CERTIFICATE, _ssl_text(error))
    except (ssl.SSLError, ConnectionError, ValueError) as error:
        return dialogue.broken(Phase.TLS, Cause.TLS, _ssl_text(error))
    finally:
        dialogue.watch.lap(Phase.TLS)
    if tls.fingerprints:
        shown = fingerprint(stream.peer_certificate or b"")
        if shown not in tls.fingerprints:
            return dialogue.broken(Phase.TLS, Cause.CERTIFICATE, f"the certificate's fingerprint is {shown}")
    return None


def _ssl_text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "reason", None) or str(error) or type(error).__name__
