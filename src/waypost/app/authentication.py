"""Whoever checks clients' claims, from the settings."""

from waypost.clock import Clock
from waypost.config.settings import Settings
from waypost.net.accounts import Accounts
from waypost.net.authentication import Authenticator
from waypost.net.client_certificates import Certificates


def new_authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """One for all listeners, so that what is remembered of failures and successes holds for each."""
    routes = settings.routes
    return Authenticator(
        Accounts(routes.accounts, clock.monotonic, settings.accounts_file, routes.others),
        clock.monotonic,
        certificates=Certificates(routes.accounts),
        limits=settings.login,
    )
