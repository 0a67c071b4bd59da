"""Where mail would go with one configuration, for those who compare two."""

from waypost.config.settings import Settings
from waypost.routing.destination import Compass, Door
from waypost.routing.rules import Router


def compass_of(settings: Settings, router: Router | None = None) -> Compass:
    """Says where mail would go with these settings; with the `router` that is made of them, if there is one."""
    doors = {
        each.name: Door(each.mode == "submission", each.trusted_networks, each.is_unix) for each in settings.listeners
    }
    return Compass(router or Router(settings.routes), settings.routes, doors)
