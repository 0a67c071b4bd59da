"""What to do about an upstream at which a probe failed: a sentence or two for people."""

from datetime import UTC, datetime

from waypost.mail.outcome import Answer, Cause, Failure, Phase
from waypost.routing.probing import Finding
from waypost.routing.route import Upstream

_NO_AUTH = "Does it offer AUTH on another port (587, 465), or only inside TLS? Is `auth.mechanism` right?"
_LOGINS = "docs/upstream-logins.md says how"


def advice(upstream: Upstream, finding: Finding) -> str:
    """What is probably wrong, and what to do; empty when all is well or the answer speaks for itself."""
    if finding.stopped is None:
        return ""
    phase, answer = finding.stopped.phase, finding.stopped.answer
    match phase:
        case Phase.RESOLVE:
            return "Is the host of `address` spelt right? In a container: does it have a name server?"
        case Phase.CONNECT:
            return _connect(upstream, answer)
        case Phase.TLS | Phase.STARTTLS:
            return _tls(upstream, finding, answer)
        case Phase.GREETING:
            return _greeting(upstream, answer)
        case Phase.EHLO:
            if isinstance(answer, Failure):
                return "That may be no mail server, or something in between holds the connection. Is the port right?"
            return "It does not like the name that we give: set `hostname` to one that the DNS knows."
        case Phase.AUTH:
            return _auth(upstream, answer)
        case Phase.MAIL:
            return "Set `probe.sender` to an address that this login may send as, or --from here."
        case _:
            return "Set `probe.canary` to a mailbox that exists, or --to. Where relaying is denied, `auth` is missing."


def _connect(upstream: Upstream, answer: Answer) -> str:
    if isinstance(answer, Failure) and answer.cause is Cause.TIMEOUT:
        if upstream.port == 25:
            return "Many networks let nobody out to port 25: try port 587 with `tls: starttls`."
        return "A firewall on the way drops this, or the host is down."
    if upstream.is_unix:
        return "Does its server run, with a socket at that path? May the user that runs Waypost open it?"
    if "refused" in str(answer):
        return (
            f"Nothing listens on port {upstream.port} there. Submission is on 587 (`tls: starttls`) or 465 "
            "(`tls: implicit`), servers are on 25."
        )
    return "Is there a route from this machine to that address?"


def _greeting(upstream: Upstream, answer: Answer) -> str:
    if not isinstance(answer, Failure):
        return "It wants no connections from this address. Is it on a block list, or does the upstream keep a list?"
    if upstream.tls.mode != "implicit" and answer.cause in (Cause.TIMEOUT, Cause.CLOSED, Cause.PROTOCOL):
        if upstream.port == 465:
            return "Port 465 begins with TLS: set `tls: implicit`."
        return "If that port begins with TLS, set `tls: implicit`. Else something in between holds the connection."
    return "That may be no mail server. Is the port right?"


def _tls(upstream: Upstream, finding: Finding, answer: Answer) -> str:
    text = str(answer).lower()
    if isinstance(answer, Failure) and answer.cause is Cause.CERTIFICATE:
        return _certificate(upstream, finding, text)
    if "not offered" in text:
        return (
            "Is the port right? Where there is no STARTTLS: `tls: implicit` (465), or `tls: off` in your own network."
        )
    if upstream.tls.mode == "implicit":
        where = " on port 587 and 25" if upstream.port in (25, 587) else ""
        return f"That port begins without TLS, as is usual{where}: set `tls: starttls`, or take port 465."
    if isinstance(answer, Failure) and answer.cause in (Cause.TIMEOUT, Cause.CLOSED, Cause.PROTOCOL):
        return "Something in between may hold TLS back, or speak for the upstream: try from another network."
    return f"The upstream's TLS is older than {upstream.tls.minimum}, or broken."


def _certificate(upstream: Upstream, finding: Finding, text: str) -> str:
    shown = finding.certificate
    asked = upstream.tls.server_name or upstream.host
    if "expired" in text:
        ended = "" if shown is None else f" on {_day(shown.not_after)}"
        return f"Its certificate ended{ended}: who runs the server has to renew it."
    if "mismatch" in text:
        names = "no name" if shown is None else shown.some_names
        return (
            f"The certificate is for {names}, not for {asked}. If that is the one: set `tls.server_name`, or `address`."
        )
    pinned = "" if shown is None else f", or `tls.fingerprint: {shown.fingerprint}` if that is what it should show"
    if "fingerprint" in text:
        return (
            "It shows another certificate than the one that is pinned. If it was renewed: set `tls.fingerprint` anew."
        )
    if "self-signed" in text or "self signed" in text or "issuer" in text:
        return f"No authority that is trusted here has signed it: set `tls.ca_file`{pinned}."
    return f"Set `tls.ca_file`{pinned}."


def _auth(upstream: Upstream, answer: Answer) -> str:
    login = upstream.credentials
    if isinstance(answer, Failure):
        match answer.cause:
            case Cause.PLAINTEXT:
                return "Set `tls: starttls`. Is the port right?"
            case Cause.LOGIN if "access token" in answer.text:
                return _token(upstream, answer.text)
            case Cause.LOGIN:
                return _NO_AUTH
            case _:
                return ""
    if login is None:
        return ""
    if answer.code in (500, 502, 503, 504):
        return _NO_AUTH
    if login.oauth2 is not None:
        return f"Is `username` the mailbox of the token? `waypost oauth login {upstream.name}` gets another one."
    host = upstream.host.lower().rstrip(".")
    if host.endswith((".gmail.com", ".googlemail.com")):
        return f"Google takes no account password here: make an app password, or use `auth.oauth2`; {_LOGINS}."
    if host.endswith((".office365.com", ".outlook.com")):
        return f"Microsoft takes no passwords here any more: use `auth.oauth2`; {_LOGINS}."
    if host.endswith(".amazonaws.com"):
        return "SES wants SMTP credentials of its own, made in its console; they are not the access key."
    return "User name (often the whole address) or password is wrong; with two-factor login, make an app password."


def _token(upstream: Upstream, text: str) -> str:
    if any(words in text for words in ("cannot be reached", "has no address", "no answer within")):
        return "Is `auth.oauth2.token_url` right, and may this machine speak to it?"
    login = upstream.credentials
    if login is not None and login.oauth2 is not None and login.oauth2.grant == "client_credentials":
        return "Are `client_id`, `client_secret` and `scope` right? A secret of an application ends some day."
    return f"`waypost oauth login {upstream.name}` gets a new one."


def _day(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "a day far away"
