"""`waypost oauth login NAME`: a person agrees, on a page of the provider, that Waypost may send mail for him."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from waypost.commands import CONFIGURATION, FAILED, FINE, TEMPORARY, USAGE, Subparsers, add_command
from waypost.commands import add_config_option as add_config

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.routing.login import OAuth2

_EXAMPLES = """\
  waypost oauth login office
  waypost oauth login office --config /etc/waypost/waypost.yaml

docs/upstream-logins.md says what to set up at Google and Microsoft before.
"""
_LOGIN = """\
  waypost oauth login office

Shows an address and a code. Open the address in any browser, on any machine,
enter the code, and agree. The refresh token that the provider then gives is
written to the upstream's `refresh_token_file`, readable by its owner alone.
A running Waypost reads it for its next access token; no restart is needed.

The upstream has, in the configuration:

  auth:
    username: me@example.com
    oauth2:
      provider: microsoft         # or token_url and device_authorization_url
      client_id: 1b4e28ba-...
      refresh_token_file: /var/lib/waypost/office.token

Google lets nobody send mail after such a login: docs/upstream-logins.md says
how to get a token there.

exit codes: 0 the token is written, 1 you or the provider said no,
2 there is no such upstream, 75 the provider cannot be reached, 78 the
configuration has errors, or this upstream lacks something for it.
"""


def register(subparsers: Subparsers) -> None:
    """Adds `oauth`."""
    parser = add_command(
        subparsers, "oauth", summary="Log in at an upstream's provider, for its access tokens.", examples=_EXAMPLES
    )
    below: Subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    summary = "Get a refresh token, by a code that you enter on the provider's page."
    login = add_command(below, "login", summary=summary, examples=_LOGIN)
    login.add_argument("name", metavar="NAME", help="the upstream, as the configuration calls it")
    add_config(login)
    login.set_defaults(run=_login)


def _login(arguments: argparse.Namespace) -> int:
    import asyncio

    from waypost.commands.oauth_login import LoginError, log_in
    from waypost.config.load import load
    from waypost.net.tokens import write_refresh_token

    name = arguments.name
    settings = load(arguments.config, os.environ)
    if name not in settings.upstreams:
        return _complain(USAGE, _unknown(settings, name))
    login = settings.upstreams[name].credentials
    oauth = None if login is None else login.oauth2
    lacking = _lacking(oauth)
    if lacking or oauth is None or oauth.refresh_token_file is None:
        return _complain(CONFIGURATION, f"upstreams.{name}.auth{lacking}")
    path = oauth.refresh_token_file
    folder = os.path.dirname(os.path.realpath(path)) or "."
    if not os.access(folder, os.W_OK | os.X_OK):
        return _complain(FAILED, f"{path} could not be written: there is no access to the folder {folder}")
    try:
        refresh = asyncio.run(log_in(oauth, lambda line: print(line, flush=True)))
        write_refresh_token(path, refresh)
    except LoginError as error:
        return _complain(TEMPORARY if error.temporary else FAILED, str(error))
    except OSError as error:
        return _complain(FAILED, f"{path} cannot be written: {error.strerror}")
    print(f"The refresh token is in {path}.")
    return FINE


def _lacking(oauth: "OAuth2 | None") -> str:
    """What the upstream lacks for a login, as the end of a sentence that begins with its `auth`."""
    if oauth is None:
        return " has no `oauth2`, so there is nothing to log in for"
    if oauth.grant != "refresh_token":
        return ".oauth2.grant is client_credentials: the application needs nobody's consent here"
    if oauth.refresh_token_file is None:
        return ".oauth2 has no `refresh_token_file`, which the token would be written to"
    if oauth.device_authorization_url is None:
        return ".oauth2 has no `device_authorization_url`: set it, or `provider`"
    return ""


def _unknown(settings: "Settings", name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, settings.upstreams, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(settings.upstreams)}"
    return f"there is no upstream {name!r}; {advice}"


def _complain(code: int, text: str) -> int:
    print(f"waypost oauth login: {text}", file=sys.stderr)
    return code
