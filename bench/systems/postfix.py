"""Postfix five ways, each a private instance with its own configuration, queue and data directories."""

import grp
import os
import pwd
import shutil
from pathlib import Path

from bench.systems.base import Place, Plain, check_way, first_line

MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
maillog_file_permissions = 0644
myhostname = postfix.bench.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
alias_maps =
alias_database =
local_recipient_maps =
default_process_limit = 250
smtpd_tls_security_level = none
smtp_tls_security_level = none
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd{options}
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class _Postfix(Plain):
    """What the five have in common."""

    smtpd_options = ""

    def unavailable(self) -> str | None:
        if not shutil.which("postfix", path=os.environ.get("PATH", "") + ":/usr/sbin"):
            return "postfix is not installed"
        if os.geteuid():
            return "Postfix must be started by root"
        return None

    def version(self) -> str:
        return "Postfix " + first_line(["/usr/sbin/postconf", "-dh", "mail_version"])

    def relay(self, place: Place) -> str:
        """Lines of main.cf that say where mail goes."""
        return f"relayhost = [127.0.0.1]:{place.sinks['primary']}\n"

    def make_queue(self, place: Place) -> Path:
        """Makes the folder of the queue: on the disk of `--work`, where Waypost's spool is, too."""
        queue = place.directory / "queue"
        queue.mkdir()
        return queue

    def _main(self, place: Place) -> str:
        return MAIN.format(directory=place.directory, queue=self.make_queue(place))

    def configure(self, place: Place) -> list[str]:
        check_way(place.directory)
        config = place.directory / "config"
        for folder in (config, place.directory / "data"):
            folder.mkdir()
        os.chown(place.directory / "data", pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        options = self.smtpd_options.format(sink=place.sinks["primary"])
        (config / "main.cf").write_text(self._main(place) + self.relay(place))
        (config / "master.cf").write_text(MASTER.format(port=place.port, options=options))
        return ["/usr/sbin/postfix", "-c", str(config), "start-fg"]


class PostfixProxy(_Postfix):
    """smtpd_proxy_filter: each message goes through while the client waits; nothing is queued."""

    name = "postfix-proxy"
    title = "Postfix, before-queue proxy"
    smtpd_options = " -o smtpd_proxy_filter=127.0.0.1:{sink}"


class PostfixQueue(_Postfix):
    """The ordinary relay: queued on disk, then delivered."""

    name = "postfix-queue"
    title = "Postfix, queueing relay"


class PostfixQueueDefault(PostfixQueue):
    """The same with its queue where the package has it, on a disk that may be another one."""

    name = "postfix-queue-default"
    title = "Postfix, queueing relay, queue at its default place"

    def make_queue(self, place: Place) -> Path:
        queue = _default_queue(place)
        queue.mkdir()
        return queue

    def clear_away(self, place: Place) -> None:
        shutil.rmtree(_default_queue(place), ignore_errors=True)


class PostfixQueuePutOff(PostfixQueue):
    """The same with a server that says 451 first: tried, put off, and delivered by the next run of the queue."""

    name = "postfix-queue-put-off"
    title = "Postfix, queueing relay, server says 451 at first"
    put_off = ("primary",)

    def relay(self, place: Place) -> str:
        return super().relay(place) + "minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n"


def _default_queue(place: Place) -> Path:
    """A folder beside the queue of an ordinary Postfix of this machine, and so on its disk."""
    usual = Path(first_line(["/usr/sbin/postconf", "-dh", "queue_directory"]))
    return usual.with_name(f"waypost-{place.directory.name}")


class PostfixCopies(_Postfix):
    """The ordinary relay with two blind copies of every message to two other servers."""

    name = "postfix-copies"
    title = "Postfix, queueing relay with two copies"
    sinks: tuple[str, ...] = ("primary", "copy1", "copy2")

    def relay(self, place: Place) -> str:
        # A bcc map gives one address; that address is an alias for two, and each has a route of its own.
        copies = [name for name in self.sinks if name != "primary"]
        both = ", ".join(f"$1@{name}.test" for name in copies)
        (place.directory / "bcc").write_text("/^(.*)@bench\\.test$/ $1@both.test\n")
        (place.directory / "both").write_text(f"/^(.*)@both\\.test$/ {both}\n")
        routes = ", ".join(f"{name}.test=relay:[127.0.0.1]:{place.sinks[name]}" for name in copies)
        return super().relay(place) + (
            f"recipient_bcc_maps = regexp:{place.directory}/bcc\n"
            f"virtual_alias_maps = regexp:{place.directory}/both\n"
            f"transport_maps = inline:{{{routes}}}\n"
        )
