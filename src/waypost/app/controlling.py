"""Opens the control socket, over which the commands ask."""

from pathlib import Path

import structlog

from waypost.admin.control import Control
from waypost.admin.queue import Queue, lanes_of_upstream
from waypost.admin.upstreams import Upstreams
from waypost.clock import Clock
from waypost.config.compass import compass_of
from waypost.config.settings import Settings
from waypost.observe.journal import Journal
from waypost.routing.rules import Router

log = structlog.get_logger()


def open_control(
    path: Path,
    queue: Queue | None,
    journal: Journal | None,
    settings: Settings,
    router: Router,
    upstreams: Upstreams,
    clock: Clock,
) -> Control | None:
    """The control API, listening at `path`; None where it cannot, which is logged: mail does not need it."""
    control = Control(
        path,
        queue,
        journal,
        clock,
        lanes_of=lambda upstream: lanes_of_upstream(settings.pools, settings.routes.routes, upstream),
        upstreams=upstreams,
        compass=compass_of(settings, router),
    )
    try:
        control.start()
    except OSError as error:
        # Whoever wants to look at the queue is told where it should be; where there is none it is less of a loss.
        tell = log.warning if queue is None else log.error
        tell("control_not_available", path=str(path), reason=str(error))
        return None
    return control
