"""Postfix three ways, each a private instance with its own configuration, queue and data directories."""

import grp
import os
import pwd
import shutil
import stat
from pathlib import Path

from bench.systems.base import Place, first_line

MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
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


class _Postfix:
    """What the three have in common."""

    sinks: tuple[str, ...] = ("primary",)
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

    def configure(self, place: Place) -> list[str]:
        _check_way(place.directory)
        config = place.directory / "config"
        for folder in (config, place.directory / "queue", place.directory / "data"):
            folder.mkdir()
        os.chown(place.directory / "data", pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        options = self.smtpd_options.format(sink=place.sinks["primary"])
        (config / "main.cf").write_text(MAIN.format(directory=place.directory) + self.relay(place))
        (config / "master.cf").write_text(MASTER.format(port=place.port, options=options))
        return ["/usr/sbin/postfix", "-c", str(config), "start-fg"]


def _check_way(directory: Path) -> None:
    """Postfix's daemons give up root, so strangers must be able to walk to its directories."""
    directory.chmod(0o755)
    closed = next((folder for folder in directory.parents if not folder.stat().st_mode & stat.S_IXOTH), None)
    if closed:
        raise PermissionError(f"Postfix's own user cannot enter {closed}; name another place with --work")


class PostfixProxy(_Postfix):
    """smtpd_proxy_filter: each message goes through while the client waits; nothing is queued."""

    name = "postfix-proxy"
    title = "Postfix, before-queue proxy"
    smtpd_options = " -o smtpd_proxy_filter=127.0.0.1:{sink}"


class PostfixQueue(_Postfix):
    """The ordinary relay: queued on disk, then delivered."""

    name = "postfix-queue"
    title = "Postfix, queueing relay"


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
