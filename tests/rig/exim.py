"""A private Exim: it answers by PRDR as its users' names say, and asks for it where it is offered."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig.ports import free_port
from rig.programs import lacking, require, require_root
from rig.waiting import wait_until

_USER = "Debian-exim"
_SETTINGS = """\
primary_hostname = exim.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/pid
keep_environment =
never_users =
prdr_enable = true
tls_advertise_hosts =
queue_only = {queue_only}
acl_smtp_rcpt = accept_all
acl_smtp_data = accept_all
acl_smtp_data_prdr = each
begin acl
accept_all:
  accept
each:
  deny  local_parts = gone
        message = Closed for you
  defer local_parts = full
        message = Come back later
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {onward}
  hosts_try_prdr = *
begin retry
* * F,1h,1h
"""


@dataclass(frozen=True, slots=True)
class Exim:
    """One that runs."""

    port: int
    folder: Path

    def log(self) -> str:
        """Its main log so far."""
        path = self.folder / "log" / "mainlog"
        return path.read_text("utf-8", "backslashreplace") if path.exists() else ""

    def wait_for_log(self, *words: str) -> str:
        """The first line of the log that contains all `words`."""
        return wait_until(
            lambda: next((line for line in self.log().split("\n") if all(word in line for word in words)), ""),
            f"a line with {words} in Exim's log",
        )


@contextmanager
def exim(onward: int | None = None) -> Iterator[Exim]:
    """An Exim that refuses content for `full@` for now and for `gone@` for good.

    It keeps what it takes, or with `onward` sends it to that port.
    """
    program = require("exim4")
    require_root()
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        lacking(f"there is no user {_USER}, whom Debian's Exim runs as")
    folder = Path(tempfile.mkdtemp(prefix="waypost-exim-"))
    folder.chmod(0o755)
    for name in ("spool", "log"):
        (folder / name).mkdir(mode=0o750)
        shutil.chown(folder / name, _USER, _USER)
    queue_only = "true" if onward is None else "false"
    (folder / "conf").write_text(_SETTINGS.format(folder=folder, onward=onward or 9, queue_only=queue_only))
    found = Exim(free_port(), folder)
    try:
        with (folder / "start.log").open("wb") as said:
            process = subprocess.Popen(
                [program, "-C", folder / "conf", "-bdf", "-oX", f"127.0.0.1:{found.port}"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            wait_until(lambda: _greets(found.port) or process.poll() is not None, "Exim's greeting", 30)
            assert process.poll() is None, (folder / "start.log").read_text()
            yield found
        except BaseException:
            print(f"--- Exim's log\n{found.log()}")
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return connection.recv(4) == b"220 "
    except OSError:
        return False
