"""Waypost as it is installed: `waypost run` with a native configuration, logging JSON to a file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.systems.base import Place, Plain, first_line

SESSIONS = 500
"""Sessions from one address, and connections to one upstream: above the highest concurrency of the benchmark."""


def program() -> str | None:
    """Where the `waypost` is that is measured: the one of this Python."""
    beside = Path(sys.executable).with_name("waypost")
    return str(beside) if beside.exists() else shutil.which("waypost")


class WaypostPass(Plain):
    """One relay listener, one upstream, nothing stored."""

    name = "waypost-pass"
    title = "Waypost, pass"

    def unavailable(self) -> str | None:
        waypost = program()
        if waypost is None:
            return "waypost is not installed"
        done = subprocess.run([waypost, "version"], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            return f"`waypost version` fails: {(done.stderr.strip().splitlines() or ['no words'])[-1]}"
        return None

    def version(self) -> str:
        return first_line([program() or "waypost", "version"])

    def configure(self, place: Place) -> list[str]:
        path = place.directory / "waypost.yaml"
        path.write_text(json.dumps(self.configuration(place), indent=2))  # JSON is YAML
        return [program() or "waypost", "run", "--config", str(path)]

    def configuration(self, place: Place) -> dict[str, Any]:
        """The settings, as they stand in the file."""
        return {
            "hostname": "waypost.bench.test",
            "listeners": [
                {
                    "address": f"127.0.0.1:{place.port}",
                    "mode": "relay",
                    "trusted_networks": ["127.0.0.0/8"],
                    "limits": {"connections_per_address": SESSIONS},
                }
            ],
            "upstreams": {
                name: {"address": f"127.0.0.1:{port}", "tls": "off", "connections": SESSIONS}
                for name, port in place.sinks.items()
                if name in self.sinks
            },
            "routes": {"all": {"primary": "primary", "acceptance": "pass"}},
            "rules": [{"route": "all"}],
            "log": {"format": "json"},
        }


class WaypostCopies(WaypostPass):
    """The same with two copies, durable before the client hears 250, delivered after it."""

    name = "waypost-copies"
    title = "Waypost, two durable copies"
    sinks = ("primary", "copy1", "copy2")

    def configuration(self, place: Place) -> dict[str, Any]:
        config = super().configuration(place)
        config["routes"]["all"]["copies"] = [{"to": name} for name in self.sinks if name != "primary"]
        return config | {"spool": {"path": str(place.directory / "spool")}}
