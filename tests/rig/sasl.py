"""The server's side of AUTH for the storing sink: every mechanism, with the passwords and tokens at hand.

Written from the RFCs by themselves, so that a mistake in Waypost's side does not meet its own mirror image.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Ask = Callable[[bytes], bytes]
"""Sends a challenge and gives the response, both as plain octets."""


@dataclass(slots=True)
class Accounts:
    """Who may log in. `tokens` are access tokens with the mailbox that each is good for.

    `certificate` is the server's own, in DER form, for channel binding. `forged` makes the server of SCRAM one that
    does not know the password and says yes all the same.
    """

    passwords: Mapping[str, str]
    tokens: dict[str, str] = field(default_factory=dict)
    delegates: Mapping[str, str] = field(default_factory=dict)
    certificate: bytes | None = None
    forged: bool = False
    hasty: bool = False
    """Whether the server of SCRAM says yes to the first message."""
    iterations: int = 4096
    logins: list[tuple[str, str]] = field(default_factory=list)
    """Each login that succeeded: mechanism and identity."""


def serve(accounts: Accounts, mechanism: str, initial: bytes | None, ask: Ask) -> str | None:
    """The identity, or None when it is refused."""
    if mechanism == "PLAIN":
        identity = _plain(accounts, initial if initial is not None else ask(b""))
    elif mechanism == "LOGIN":
        name = initial if initial is not None else ask(b"Username:")
        identity = _known(accounts, name, ask(b"Password:"))
    elif mechanism == "CRAM-MD5":
        identity = _cram(accounts, ask)
    elif mechanism.startswith("SCRAM-SHA-256"):
        identity = _scram(accounts, mechanism.endswith("-PLUS"), initial if initial is not None else ask(b""), ask)
    else:
        identity = _bearer(accounts, mechanism, initial if initial is not None else ask(b""), ask)
    if identity is not None:
        accounts.logins.append((mechanism, identity))
    return identity


def _known(accounts: Accounts, name: bytes, password: bytes) -> str | None:
    return name.decode() if accounts.passwords.get(name.decode()) == password.decode() else None


def _acting(accounts: Accounts, name: str | None, wanted: str) -> str | None:
    if name is None or not wanted or wanted == name:
        return name
    return wanted if accounts.delegates.get(wanted) == name else None


def _plain(accounts: Accounts, message: bytes) -> str | None:
    wanted, name, password = message.split(b"\0")
    return _acting(accounts, _known(accounts, name, password), wanted.decode())


def _cram(accounts: Accounts, ask: Ask) -> str | None:
    challenge = b"<%s@sink.example>" % os.urandom(8).hex().encode()
    name, _, digest = ask(challenge).decode().rpartition(" ")
    password = accounts.passwords.get(name, "\0")
    right = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
    return name if digest == right else None


def _scram(accounts: Accounts, plus: bool, first: bytes, ask: Ask) -> str | None:
    flag, authzid, rest = first.split(b",", 2)
    header = first[: -len(rest)]
    bound = b""
    if plus:
        assert flag == b"p=tls-server-end-point", flag
        assert accounts.certificate is not None
        bound = hashlib.sha256(accounts.certificate).digest()
    elif flag == b"y" and accounts.certificate is not None:
        return None  # the client could have bound it, and so can we: somebody has cut -PLUS from our list
    fields = dict(part.split(b"=", 1) for part in rest.split(b","))
    name = fields[b"n"].replace(b"=2C", b",").replace(b"=3D", b"=").decode()
    if accounts.hasty:
        return name
    salt, nonce = os.urandom(12), fields[b"r"] + os.urandom(9).hex().encode()
    server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), accounts.iterations)
    final = ask(server_first)
    without_proof, _, proof = final.rpartition(b",p=")
    said = dict(part.split(b"=", 1) for part in without_proof.split(b","))
    assert said[b"r"] == nonce
    binding_is_right = base64.b64decode(said[b"c"]) == header + bound
    password = accounts.passwords.get(name, "\0")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, accounts.iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    message = b",".join((rest, server_first, without_proof))
    signature = hmac.digest(stored, message, "sha256")
    key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    if (hashlib.sha256(key).digest() != stored or not binding_is_right) and not accounts.forged:
        return None
    server_key = os.urandom(32) if accounts.forged else hmac.digest(salted, b"Server Key", "sha256")
    verifier = base64.b64encode(hmac.digest(server_key, message, "sha256"))
    assert ask(b"v=" + verifier) == b""
    return _acting(accounts, name, authzid.removeprefix(b"a=").decode())


def _bearer(accounts: Accounts, mechanism: str, message: bytes, ask: Ask) -> str | None:
    parts = message.split(b"\x01")
    assert parts[-2:] == [b"", b""], message
    fields = dict(part.split(b"=", 1) for part in parts[:-2] if b"=" in part and not part.startswith(b"n,"))
    if mechanism == "XOAUTH2":
        user = fields[b"user"].decode()
    else:
        gs2, identity, nothing = parts[0].split(b",")
        assert (gs2, nothing) == (b"n", b"")
        assert fields[b"host"]
        assert int(fields[b"port"])
        user = identity.removeprefix(b"a=").replace(b"=2C", b",").replace(b"=3D", b"=").decode()
    scheme, _, token = fields[b"auth"].decode().partition(" ")
    assert scheme == "Bearer"
    if accounts.tokens.get(token) == user:
        return user
    # Whoever logs tokens shows them: the client must not.
    complaint = {"status": "400", "schemes": "Bearer", "scope": "https://mail.example/", "seen": token}
    answer = ask(json.dumps(complaint).encode())
    assert answer == (b"" if mechanism == "XOAUTH2" else b"\x01"), answer
    return None
