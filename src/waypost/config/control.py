"""Where the control socket of a Waypost is, for the one who listens there and for those who ask."""

import os
from collections.abc import Mapping
from pathlib import Path

from waypost.config.settings import Settings

NAME = "control.sock"
USUAL = Path("/run/waypost", NAME)
"""Where it is when there is no folder for the spool, and no variable names one for what runs."""


def control_path(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The control socket: in the spool's folder, else in the runtime folder (systemd's, the user's, /run/waypost)."""
    if settings.spool is not None and settings.spool.path is not None:
        return Path(os.path.abspath(settings.spool.path), NAME)
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]  # systemd lists several with colons
    if os.path.isabs(runtime):
        return Path(runtime, NAME)
    of_user = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(of_user):
        return Path(of_user, "waypost", NAME)
    return USUAL


def find_control(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The control socket as another process looks for it: a service has another runtime folder than a person."""
    path = control_path(settings, environ)
    if settings.spool is not None and settings.spool.path is not None:
        return path
    return USUAL if not _is_there(path) and _is_there(USUAL) else path


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a folder that we may not enter: connecting will say so
        return True
    return True
