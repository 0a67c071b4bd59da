"""A private Postfix: its own configuration, queue and ports on loopback; nothing of the system's is touched."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.ports import free_port
from rig.programs import require, require_root, run, transcript
from rig.waiting import wait_until

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
tlsmgr    unix  - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
"""

_MAIN: dict[str, str] = {
    "compatibility_level": "3.6",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "myhostname": "postfix.example",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "alias_maps": "",
    "alias_database": "",
    "biff": "no",
    "smtputf8_enable": "yes",
    "smtpd_peername_lookup": "no",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtp_destination_concurrency_limit": "1",
    "default_transport": "error:this Postfix has no way out",
    "minimal_backoff_time": "2s",
    "maximal_backoff_time": "4s",
    "queue_run_delay": "2s",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_connection_count_limit": "0",
}


class PostfixInstance:
    """One Postfix, running inside a `with`. `main` adds to main.cf; `transport` is {domain: "smtp:[host]:port"}.

    `files` are the texts of further files of its configuration, `services` further lines of master.cf.
    """

    def __init__(
        self,
        main: Mapping[str, str] | None = None,
        transport: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        services: Sequence[str] = (),
    ) -> None:
        self._postfix = require("postfix")
        require_root()
        self.port = free_port()
        self._main = dict(main or {})
        self._transport = dict(transport or {})
        self._files = dict(files or {})
        self._services = "".join(f"{line}\n" for line in services)
        self._process: subprocess.Popen[bytes] | None = None
        # Not pytest's folder: Postfix's own user has to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="waypost-postfix-"))

    @property
    def address(self) -> str:
        """Where it listens, as configurations write it."""
        return f"127.0.0.1:{self.port}"

    def log(self) -> str:
        """Its mail log so far."""
        path = self.folder / "log" / "mail.log"
        return path.read_text("utf-8", "backslashreplace") if path.exists() else ""

    def wait_for_log(self, *words: str, count: int = 1, seconds: float = 30) -> list[str]:
        """The lines of the log that contain all `words`, as soon as there are `count`."""

        def enough() -> list[str]:
            lines = [line for line in self.log().split("\n") if all(word in line for word in words)]
            return lines if len(lines) >= count else []

        try:
            return wait_until(enough, f"{count} log lines with {words}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; Postfix's log is\n{self.log()}") from None

    def queued(self) -> int:
        """How many messages are in its queue."""
        result = run("postqueue -j -c", self._config)
        return len([line for line in result.stdout.split(b"\n") if line])

    def __enter__(self) -> Self:
        try:
            self._write()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- Postfix's log\n{self.log()}")
        self._stop()

    @property
    def _config(self) -> Path:
        return self.folder / "etc"

    def _write(self) -> None:
        self.folder.chmod(0o755)
        for name in ("etc", "queue", "data", "log"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "data", "postfix")
        for name, text in self._files.items():
            (self._config / name).parent.mkdir(mode=0o755, exist_ok=True)
            (self._config / name).write_text(text)
        transport = self._config / "transport"
        transport.write_text("".join(f"{domain} {way}\n" for domain, way in self._transport.items()))
        main = {
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.folder / "log" / "mail.log"),
            "maillog_file_prefixes": str(self.folder),
            "transport_maps": f"texthash:{transport}",
            **_MAIN,
            **self._main,
        }
        (self._config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        (self._config / "master.cf").write_text(_MASTER.format(port=self.port) + self._services)

    def _start(self) -> None:
        # In the foreground, as our child: so its end is ours to see. A process group of its own, so that no
        # process of Postfix can outlive the test.
        with (self.folder / "log" / "start.log").open("wb") as said:
            self._process = subprocess.Popen(
                [self._postfix, "-c", self._config, "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_up, "Postfix's greeting", 30)

    def _is_up(self) -> bool:
        assert self._process is not None
        started = (self.folder / "log" / "start.log").read_text("utf-8", "backslashreplace")
        assert self._process.poll() is None, f"Postfix did not start:\n{started}\n{self.log()}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                if "smtpd_upstream_proxy_protocol" in self._main:
                    connection.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 25 25\r\n")
                return connection.recv(4) == b"220 "
        except OSError:
            return False

    def _stop(self) -> None:
        process, self._process = self._process, None
        try:
            if process is not None:
                self._end(process)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        stopped = run("postfix -c", self._config, "stop")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            raise AssertionError(f"Postfix does not stop: {transcript(stopped)}") from None
