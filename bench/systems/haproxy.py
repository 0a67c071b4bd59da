"""HAProxy in TCP mode: no SMTP at all, so the limit for whoever reads and writes every octet once."""

import shutil

from bench.systems.base import Place, Plain, first_line

CONFIG = """\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 10s
    timeout client 5m
    timeout server 5m
listen smtp
    bind 127.0.0.1:{port} backlog 1024
    server sink 127.0.0.1:{sink}
"""


class HAProxy(Plain):
    """Threads, buffers and splicing as the package has them."""

    name = "haproxy"
    title = "HAProxy, TCP mode"

    def unavailable(self) -> str | None:
        return None if shutil.which("haproxy") else "haproxy is not installed"

    def version(self) -> str:
        return first_line(["haproxy", "-v"]).partition(" - ")[0]

    def configure(self, place: Place) -> list[str]:
        path = place.directory / "haproxy.cfg"
        path.write_text(CONFIG.format(port=place.port, sink=place.sinks["primary"]))
        return ["haproxy", "-db", "-f", str(path)]
