"""Waypost that takes responsibility: acceptance `spool`, and `hybrid` with a primary that answers or does not."""

from typing import Any

from bench.systems.base import Place
from bench.systems.waypost import WaypostPass

RETRY = "1s"
"""When what the primary put off is tried again: so that a run ends. An ordinary Waypost waits a minute."""


class WaypostSpool(WaypostPass):
    """Answered once it is on disk, delivered afterwards, over as many connections as an upstream gets by default."""

    name = "waypost-spool"
    title = "Waypost, spool"
    has_metrics = True
    acceptance = "spool"

    def configuration(self, place: Place) -> dict[str, Any]:
        config = super().configuration(place)
        config["routes"]["all"]["acceptance"] = self.acceptance
        if self.acceptance == "spool":
            del config["upstreams"]["primary"]["connections"]
        return config | {
            "spool": {"path": str(place.directory / "spool")},
            "admin": {"address": f"127.0.0.1:{place.admin}"},
        }


class WaypostHybrid(WaypostSpool):
    """The primary answers while the client waits, so that nothing is left to be stored."""

    name = "waypost-hybrid"
    title = "Waypost, hybrid, primary takes it"
    acceptance = "hybrid"


class WaypostHybridQueued(WaypostHybrid):
    """The primary puts each recipient off once: every message is tried, stored, answered, and delivered later."""

    name = "waypost-hybrid-queued"
    title = "Waypost, hybrid, primary says 451 at first"
    put_off = ("primary",)

    def configuration(self, place: Place) -> dict[str, Any]:
        config = super().configuration(place)
        config["routes"]["all"]["backoff"] = [RETRY]
        return config
