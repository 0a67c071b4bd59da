"""What is said to a token endpoint, and what it says: RFC 6749 (tokens) and RFC 8628 (logins by a code on a page)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waypost.net.https import HttpError, Response, post_form
from waypost.routing.login import OAuth2
from waypost.smtp.mechanisms import without
from waypost.smtp.reply import printable
from waypost.smtp.sasl import Secret

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LIFETIME = 600.0  # seconds, where the endpoint does not say
_MAX_LIFETIME = 86400.0
_MAX_WORDS = 300


class TokenError(Exception):
    """There is no token. The message has the endpoint's own words, if there were any, and no secret.

    `code` is the error of RFC 6749 section 5.2, such as `invalid_grant`, or nothing.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token, how many seconds it lives, and the refresh token that came with it."""

    access: Secret
    lifetime: float
    refresh: Secret | None = None


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person is asked to do: open `url` and enter `user_code`, within `lifetime` seconds."""

    device_code: Secret
    user_code: str
    url: str
    complete_url: str | None
    lifetime: float
    interval: float


async def fetch_token(oauth: OAuth2, refresh_token: Secret | None) -> Granted:
    """A new access token by the configured grant. For tasks only. Raises `TokenError`."""
    fields = {"grant_type": oauth.grant, "client_id": oauth.client_id}
    if oauth.scope is not None:
        fields["scope"] = oauth.scope
    if oauth.grant == "refresh_token":
        if refresh_token is None:
            raise TokenError("there is no refresh token")
        fields["refresh_token"] = refresh_token.reveal()
    return granted(await _ask(oauth, oauth.token_url, fields, refresh_token))


async def ask_device_code(oauth: OAuth2) -> DeviceCode:
    """Begins a login by a code (RFC 8628 section 3.1). For tasks only. Raises `TokenError`."""
    if oauth.device_authorization_url is None:
        raise TokenError("there is no device_authorization_url")
    fields = {"client_id": oauth.client_id}
    if oauth.scope is not None:
        fields["scope"] = oauth.scope
    said = await _ask(oauth, oauth.device_authorization_url, fields)
    # Google's older name for it is verification_url.
    url = _text(said, "verification_uri") or _text(said, "verification_url")
    device_code, user_code = _text(said, "device_code"), _text(said, "user_code")
    if not (url and device_code and user_code):
        raise TokenError("the answer has no device code, user code or address in it")
    return DeviceCode(
        Secret(device_code),
        printable(user_code),
        printable(url),
        printable(_text(said, "verification_uri_complete")) or None,
        _seconds(said, "expires_in", 900),
        _seconds(said, "interval", 5),
    )


async def ask_device_token(oauth: OAuth2, device_code: Secret) -> Granted:
    """Asks whether the person has agreed meanwhile (RFC 8628 section 3.4). For tasks only.

    Raises `TokenError`, whose code is `authorization_pending` or `slow_down` while there is hope.
    """
    fields = {"grant_type": DEVICE_GRANT, "client_id": oauth.client_id, "device_code": device_code.reveal()}
    return granted(await _ask(oauth, oauth.token_url, fields, device_code))


def granted(said: Mapping[str, Any]) -> Granted:
    """The tokens in an answer. Raises `TokenError` when there are none that can be used."""
    access, refresh = _text(said, "access_token"), _text(said, "refresh_token")
    if not _is_token(access):
        raise TokenError("the answer has no access token in it")
    kind = _text(said, "token_type")
    if kind and kind.lower() != "bearer":
        raise TokenError(f"the token is of the type {printable(kind)[:40]}, not Bearer")
    kept = Secret(refresh) if _is_token(refresh) else None
    return Granted(Secret(access), _seconds(said, "expires_in", _LIFETIME), kept)


async def _ask(oauth: OAuth2, url: str, fields: dict[str, str], *confided: Secret | None) -> Mapping[str, Any]:
    if oauth.client_secret is not None:
        fields["client_secret"] = oauth.client_secret.reveal()
    try:
        answer = await post_form(url, fields, timeout=oauth.timeout, ca_file=oauth.ca_file)
    except HttpError as error:
        raise TokenError(f"the token endpoint {url}: {error}") from None
    said = _object(answer)
    if answer.status == 200 and said is not None and "error" not in said:
        return said
    code, text = _complaint(said)
    words = without(text, oauth.client_secret, *confided) or f"it answers {answer.status}, and nothing that makes sense"
    raise TokenError(f"the token endpoint {url}: {words}", code)


def _object(answer: Response) -> Mapping[str, Any] | None:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _complaint(said: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and words of an error, cleaned and cut."""
    if said is None or not _text(said, "error"):
        return "", ""
    code = printable(_text(said, "error"))[:60]
    description = printable(_text(said, "error_description")).strip()
    return code, f"{code}: {description}"[:_MAX_WORDS] if description else code


def _is_token(text: str) -> bool:
    """Printable ASCII without spaces (RFC 6749 appendix A.12)."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _seconds(said: Mapping[str, Any], key: str, default: float) -> float:
    """A number of seconds, which some endpoints write as text; nonsense is the default."""
    value = said.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return default
    return float(min(value, _MAX_LIFETIME))  # there are whole numbers that no float can be
