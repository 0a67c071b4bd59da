"""Waypost with its spool in PostgreSQL: a cluster of its own for each run, whose cost is part of the system's."""

import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.ports import free_port
from bench.systems.base import Place, check_way, first_line
from bench.systems.waypost_spool import WaypostSpool

USER = "waypost"
SETTINGS = {"max_connections": "100", "unix_socket_directories": "", "listen_addresses": "127.0.0.1"}
"""What differs from PostgreSQL's defaults, none of which is about speed: `fsync` and `synchronous_commit` are on."""


class WaypostSpoolPostgres(WaypostSpool):
    """The same as `waypost-spool`, on PostgreSQL over loopback TCP."""

    name = "waypost-spool-pg"
    title = "Waypost, spool in PostgreSQL"
    database = "postgres"

    def unavailable(self) -> str | None:
        try:
            _program("postgres")
        except FileNotFoundError:
            return "PostgreSQL is not installed"
        if not os.geteuid() and _ordinary_user() is None:
            return "PostgreSQL does not run as root, and there is no user postgres or nobody"
        return super().unavailable()

    def version(self) -> str:
        return f"{super().version()}, {first_line([str(_program('postgres')), '--version'])}"

    def configuration(self, place: Place) -> dict[str, Any]:
        return super().configuration(place) | {"spool": {"url": f"postgresql://{USER}@127.0.0.1:{self._port}/postgres"}}

    def configure(self, place: Place) -> list[str]:
        """A shell starts the cluster, waits for it, and becomes Waypost."""
        self._port = free_port()
        folder = place.directory / "cluster"
        folder.mkdir()
        person = _ordinary_user() if not os.geteuid() else None
        if person is not None:
            check_way(place.directory)
            os.chown(folder, person.pw_uid, person.pw_gid)
        subprocess.run(
            [_program("initdb"), "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            **({} if person is None else {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}),
        )
        server = [str(_program("postgres")), "-D", str(folder / "data"), "-p", str(self._port)]
        server += [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        if person is not None:
            server = ["setpriv", f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}", "--clear-groups", *server]
        ready = [str(_program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        lines = [
            f"{shlex.join(server)} 2>&1 &",
            f"until {shlex.join(ready)}; do kill -0 $! || exit 1; sleep 0.02; done",
            # Without a folder for its spool the control socket is in that of what runs.
            f"RUNTIME_DIRECTORY={shlex.quote(str(place.directory))} exec {shlex.join(super().configure(place))}",
        ]
        return ["/bin/sh", "-c", "\n".join(lines)]

    def clear_away(self, place: Place) -> None:
        """Ends the cluster where the harness had lost sight of it: it is a child of a process that has ended."""
        if (place.directory / "cluster" / "data" / "postmaster.pid").exists():
            command = [
                str(_program("pg_ctl")),
                "-D",
                str(place.directory / "cluster" / "data"),
                "stop",
                "-m",
                "immediate",
            ]
            person = _ordinary_user() if not os.geteuid() else None
            if person is not None:
                command = [
                    "setpriv",
                    f"--reuid={person.pw_uid}",
                    f"--regid={person.pw_gid}",
                    "--clear-groups",
                    *command,
                ]
            subprocess.run(command, capture_output=True, check=False, timeout=30)


def _program(name: str) -> Path:
    """One of PostgreSQL's programs, of the newest version; Debian has them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which(name)
    if not found and elsewhere is None:
        raise FileNotFoundError(name)
    return found[-1] if found else Path(str(elsewhere))


def _ordinary_user() -> pwd.struct_passwd | None:
    """Somebody who is not root."""
    return next((person for person in pwd.getpwall() if person.pw_name in ("postgres", "nobody")), None)
