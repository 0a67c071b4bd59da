"""The device flow (RFC 8628): a code for a person, and patience until he has entered it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from waypost.commands.foreground import showable
from waypost.net.oauth import DeviceCode, Granted, TokenError, ask_device_code, ask_device_token
from waypost.routing.login import OAuth2
from waypost.smtp.sasl import Secret

_SLOWER = 5.0  # seconds, added to the interval when the endpoint says slow_down (section 3.5)
_MAX_INTERVAL = 60.0
_NO_SCOPE = "; Google gives its mail scope to no device login: docs/upstream-logins.md says what to do instead"


class LoginError(Exception):
    """There is no refresh token. `temporary` says that the provider gave no answer that makes sense."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


async def log_in(
    oauth: OAuth2,
    show: Callable[[str], object],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Secret:
    """Shows where to go with which code, waits until that is done, and gives the refresh token.

    For tasks only. Raises `LoginError`.
    """
    try:
        code = await ask_device_code(oauth)
    except TokenError as error:
        advice = _NO_SCOPE if error.code == "invalid_scope" and "google" in oauth.token_url else ""
        raise LoginError(f"{error}{advice}", temporary=not error.code) from None
    for line in _invitation(code):
        show(showable(line))
    granted = await _wait(oauth, code, sleep, now)
    if granted.refresh is None:
        raise LoginError("the provider gave no refresh token; Microsoft wants `offline_access` in `scope` for one")
    return granted.refresh


def _invitation(code: DeviceCode) -> list[str]:
    lines = ["Open this address in any browser, enter the code, and agree:", ""]
    lines += [f"  address  {code.url}", f"  code     {code.user_code}"]
    if code.complete_url is not None:
        lines += ["", f"or, with the code in it: {code.complete_url}"]
    return [*lines, "", f"Waiting for you, for {code.lifetime / 60:.0f} minutes at most. Ctrl-C gives up."]


async def _wait(
    oauth: OAuth2, code: DeviceCode, sleep: Callable[[float], Awaitable[object]], now: Callable[[], float]
) -> Granted:
    interval, end = code.interval, now() + code.lifetime
    while now() + interval < end:
        await sleep(interval)
        try:
            return await ask_device_token(oauth, code.device_code)
        except TokenError as error:
            if error.code == "slow_down":
                interval += _SLOWER
            elif not error.code:  # no answer: less often, and the person may still be at it (section 3.5)
                interval = min(interval * 2, _MAX_INTERVAL)
            elif error.code == "expired_token":
                break
            elif error.code != "authorization_pending":
                raise LoginError(str(error)) from None
    raise LoginError("nobody entered the code in time; begin again")
