"""Waypost with its spool in PostgreSQL: a cluster of its own for each run, whose cost is part of the system's."""

import shlex
from typing import Any

from bench.systems import cluster
from bench.systems.base import Place
from bench.systems.waypost_spool import WaypostSpool


class WaypostSpoolPostgres(WaypostSpool):
    """The same as `waypost-spool`, on PostgreSQL over loopback TCP."""

    name = "waypost-spool-pg"
    title = "Waypost, spool in PostgreSQL"
    database = "postgres"
    _cluster: cluster.Cluster | None = None

    def unavailable(self) -> str | None:
        return cluster.unavailable() or super().unavailable()

    def version(self) -> str:
        return f"{super().version()}, {cluster.version()}"

    def configuration(self, place: Place) -> dict[str, Any]:
        assert self._cluster is not None
        return super().configuration(place) | {"spool": {"url": self._cluster.url}}

    def configure(self, place: Place) -> list[str]:
        """A shell starts the cluster, waits for it, and becomes Waypost."""
        self._cluster = cluster.Cluster(place.directory)
        self._cluster.make()
        lines = [
            f"{shlex.join(self._cluster.command)} 2>&1 &",
            f"until {shlex.join(self._cluster.ready_command)}; do kill -0 $! || exit 1; sleep 0.02; done",
            f"exec {shlex.join(super().configure(place))}",
        ]
        return ["/bin/sh", "-c", "\n".join(lines)]

    def clear_away(self, place: Place) -> None:
        """Ends the cluster where the harness has lost sight of it: it is a child of a process that has ended."""
        if self._cluster is not None:
            self._cluster.stop()
