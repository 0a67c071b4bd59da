"""What one writes in an afternoon: aiosmtpd takes the message, aiosmtplib hands it on. See `bench/forwarder.py`."""

import sys
from importlib.metadata import PackageNotFoundError, version

from bench.systems.base import Place, Plain

PARTS = ("aiosmtpd", "aiosmtplib", "uvloop")


class Aiosmtpd(Plain):
    """One process on uvloop, a new upstream connection for each message, as `aiosmtplib.send` does it."""

    name = "aiosmtpd"
    title = "aiosmtpd + aiosmtplib on uvloop"

    def unavailable(self) -> str | None:
        try:
            self.version()
        except PackageNotFoundError as error:
            return f"{error.name} is not installed"
        return None

    def version(self) -> str:
        return ", ".join(f"{part} {version(part)}" for part in PARTS)

    def configure(self, place: Place) -> list[str]:
        return [sys.executable, "-m", "bench.forwarder", str(place.port), str(place.sinks["primary"])]
