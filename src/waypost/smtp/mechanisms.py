"""The client's side of AUTH: which mechanism, and what it says. Pure: nonces and channel bindings are arguments.

EXTERNAL (RFC 4422), PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-256 and its -PLUS (`scram`), OAUTHBEARER
(RFC 7628), and XOAUTH2, which Google and Microsoft describe.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.smtp import commands as c
from waypost.smtp.reply import printable
from waypost.smtp.sasl import SaslError, Secret
from waypost.smtp.scram import Binding, Scram

WITH_PASSWORD = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")
WITH_TOKEN = ("OAUTHBEARER", "XOAUTH2")
CLIENT_MECHANISMS = (*WITH_PASSWORD, *WITH_TOKEN)
"""All that prove a secret."""
WITH_CERTIFICATE = "EXTERNAL"
"""The one that points to the certificate that TLS has shown (RFC 4422 appendix A). It is never chosen by itself."""

NO_DELEGATE = frozenset({"LOGIN", "CRAM-MD5"})
"""Those that cannot say for whom one acts."""

_MAX_COMMAND = 510  # octets of AUTH with its initial response, without the CRLF (RFC 4954 section 4)
_MAX_COMPLAINT = 200


@dataclass(frozen=True, slots=True)
class Proof:
    """Who we are, and the secret that shows it: a password, or an access token of OAuth 2.0.

    `authorize_as` is the identity to act for, when that is another one. `host` and `port` are the server's.
    """

    username: str
    secret: Secret
    authorize_as: str | None = None
    host: str = ""
    port: int = 0


class Mechanism(Protocol):
    """One exchange, step by step. `complaint` is what the server said of a failure, in words."""

    complaint: str

    def first(self) -> bytes | None:
        """The initial response; None when the server speaks first."""

    def step(self, challenge: bytes) -> bytes:
        """The answer to a challenge. Raises `SaslError`."""

    def finish(self) -> None:
        """Takes note that the server says yes. Raises `SaslError` when it has not earned that."""


def order(
    offered: Sequence[str], *, wanted: str | None, token: bool, private: bool, binding: bool, delegate: bool
) -> tuple[str, ...]:
    """The mechanisms that can be used, best first; `wanted` alone when it is set, if it is offered.

    `private` says that nobody but the verified upstream hears us. Then PLAIN is better than CRAM-MD5, which many
    servers offer and cannot carry out, since it needs passwords that are stored readable; where somebody may be in
    between, it is the other way round. A server without a list is asked for the commonest mechanism.
    """
    if wanted is not None:
        return (wanted,) if wanted in offered or not offered else ()
    if not offered:
        return ("XOAUTH2",) if token else ("PLAIN",)
    known = WITH_TOKEN if token else WITH_PASSWORD
    usable = [
        name
        for name in known
        if name in offered and (binding or not name.endswith("-PLUS")) and not (delegate and name in NO_DELEGATE)
    ]
    if not private and "CRAM-MD5" in usable:
        usable.sort(key=lambda name: name in ("PLAIN", "LOGIN"))
    return tuple(usable)


def mechanism(name: str, proof: Proof, nonce: str, binding: Binding | None = None) -> Mechanism:
    """A new exchange by the mechanism `name`, one of `CLIENT_MECHANISMS` or `WITH_CERTIFICATE`.

    Raises `SaslError` when it cannot carry these names or this secret.
    """
    match name:
        case "PLAIN":
            return _Plain(proof)
        case "EXTERNAL":
            return _External(proof)
        case "LOGIN":
            return _Login(proof)
        case "CRAM-MD5":
            return _CramMd5(proof)
        case "XOAUTH2":
            return _XOAuth2(proof)
        case "OAUTHBEARER":
            return _OAuthBearer(proof)
        case _:
            return _Scram(proof, nonce, binding, bound=name.endswith("-PLUS"))


class ClientExchange:
    """One exchange as commands: base64, and the initial response where it fits."""

    def __init__(self, name: str, mechanism: Mechanism) -> None:
        self.name = name
        self._mechanism = mechanism
        self._held: bytes | None = None  # an initial response that was too long for the command

    @property
    def complaint(self) -> str:
        """What the server said of a failure, in words, when the mechanism lets it."""
        return self._mechanism.complaint

    def begin(self) -> c.Auth:
        """The command."""
        first = self._mechanism.first()
        if first is None:
            return c.Auth(self.name)
        command = c.Auth(self.name, _encoded(first))
        if len("AUTH ") + len(self.name) + 1 + len(command.initial or "=") <= _MAX_COMMAND:
            return command
        self._held = first
        return c.Auth(self.name)

    def advance(self, challenge: str) -> c.AuthResponse:
        """The response to the text of a 334. Raises `SaslError`, after which the exchange is to be cancelled."""
        held, self._held = self._held, None
        if held is not None:
            return c.AuthResponse(_encoded(held))
        try:
            octets = base64.b64decode(challenge.strip(), validate=True)
        except (binascii.Error, ValueError):
            if self.name != "LOGIN":  # whose prompts some servers write in plain words; they say nothing anyway
                raise SaslError("the challenge is not base64") from None
            octets = b""
        return c.AuthResponse(_encoded(self._mechanism.step(octets)))

    def finish(self) -> None:
        """Takes note that the server says yes. Raises `SaslError` when it has not earned that."""
        self._mechanism.finish()


class _Script:
    """A mechanism whose answers are known beforehand, whatever the challenges are."""

    complaint = ""

    def __init__(self, answers: Iterator[bytes]) -> None:
        self._answers = answers

    def first(self) -> bytes | None:
        return None

    def step(self, challenge: bytes) -> bytes:
        for answer in self._answers:
            return answer
        raise SaslError("the upstream asks for more than the mechanism has")

    def finish(self) -> None:
        pass


class _Plain(_Script):
    def __init__(self, proof: Proof) -> None:
        parts = (proof.authorize_as or "", proof.username, proof.secret.reveal())
        self._message = _octets("\0".join(parts), parts, "\0")
        super().__init__(iter((self._message,)))  # once more, for servers that overlook the initial response

    def first(self) -> bytes:
        return self._message


class _External(_Script):
    def __init__(self, proof: Proof) -> None:
        self._message = (proof.authorize_as or "").encode()
        super().__init__(iter((self._message,)))

    def first(self) -> bytes:
        return self._message


class _Login(_Script):
    def __init__(self, proof: Proof) -> None:
        _refuse_delegate("LOGIN", proof)
        super().__init__(iter((proof.username.encode(), proof.secret.reveal().encode())))


class _CramMd5(_Script):
    def __init__(self, proof: Proof) -> None:
        _refuse_delegate("CRAM-MD5", proof)
        super().__init__(iter(()))
        self._proof: Proof | None = proof

    def step(self, challenge: bytes) -> bytes:
        proof, self._proof = self._proof, None
        if proof is None:
            return super().step(challenge)
        if not challenge:
            raise SaslError("the challenge is empty")
        digest = hmac.new(proof.secret.reveal().encode(), challenge, "md5").hexdigest()
        return f"{proof.username} {digest}".encode()


class _Bearer(_Script):
    """What the two mechanisms for tokens share: a failure comes as a challenge with JSON in it."""

    def __init__(self, message: bytes, acknowledgement: bytes, secret: Secret) -> None:
        super().__init__(iter((acknowledgement,)))
        self._message = message
        self._secret = secret

    def first(self) -> bytes:
        return self._message

    def step(self, challenge: bytes) -> bytes:
        if not challenge and not self.complaint:
            self.complaint = "no reason is given"
            return self._message  # a server that overlooks the initial response
        self.complaint = without(_words(challenge), self._secret)
        return super().step(challenge)


class _XOAuth2(_Bearer):
    def __init__(self, proof: Proof) -> None:
        user, token = proof.authorize_as or proof.username, proof.secret.reveal()
        message = _octets(f"user={user}\x01auth=Bearer {token}\x01\x01", (user, token), "\x01")
        super().__init__(message, b"", proof.secret)


class _OAuthBearer(_Bearer):
    def __init__(self, proof: Proof) -> None:
        user, token = proof.authorize_as or proof.username, proof.secret.reveal()
        written = user.replace("=", "=3D").replace(",", "=2C")
        fields = f"host={proof.host}\x01port={proof.port}\x01auth=Bearer {token}"
        message = _octets(f"n,a={written},\x01{fields}\x01\x01", (user, token), "\x01")
        super().__init__(message, b"\x01", proof.secret)  # RFC 7628 section 3.2.3


class _Scram:
    complaint = ""

    def __init__(self, proof: Proof, nonce: str, binding: Binding | None, *, bound: bool) -> None:
        self._scram = Scram(
            proof.username, proof.secret, nonce, authorize_as=proof.authorize_as, binding=binding, bound=bound
        )

    def first(self) -> bytes:
        return self._scram.first()

    def step(self, challenge: bytes) -> bytes:
        return self._scram.step(challenge)

    def finish(self) -> None:
        if not self._scram.proven:
            raise SaslError("the upstream says yes without having proven that it knows the password itself")


def without(text: str, *secrets: Secret | None) -> str:
    """Another's words without what we had confided to him."""
    for secret in secrets:
        if secret is not None and secret.reveal():
            text = text.replace(secret.reveal(), "(secret)")
    return text


def _words(challenge: bytes) -> str:
    """The reason in a failure of XOAUTH2 or OAUTHBEARER: its JSON's values, or what else there is, as one line."""
    text = challenge.decode("utf-8", "backslashreplace")
    try:
        said = json.loads(text)
        pairs = said.items() if isinstance(said, dict) else ()
        words = ", ".join(f"{name} {value}" for name, value in pairs if isinstance(value, str | int) and value != "")
    except (ValueError, RecursionError):
        words = text
    return printable(words)[:_MAX_COMPLAINT].strip() or "no reason is given"


def _refuse_delegate(name: str, proof: Proof) -> None:
    if proof.authorize_as is not None:
        raise SaslError(f"{name} cannot act for another identity")


def _octets(message: str, parts: Sequence[str], separator: str) -> bytes:
    if any(separator in part for part in parts):
        raise SaslError("a user name, password or token has a control character in it")
    try:
        return message.encode()
    except UnicodeEncodeError:
        raise SaslError("a user name, password or token is not text") from None


def _encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
