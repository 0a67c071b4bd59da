"""A private Dovecot whose LMTP server delivers into Maildirs in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig.ports import free_port
from rig.programs import lacking, require, require_root
from rig.waiting import wait_until

_LMTP = ("/usr/lib/dovecot/lmtp", "/usr/libexec/dovecot/lmtp")
_SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = lmtp
ssl = no
mail_location = maildir:~/Maildir
mail_plugins = quota
plugin {{
  quota = maildir:User quota
  quota_grace = 0
}}
lmtp_save_to_detail_mailbox = no
quota_full_tempfail = {tempfail}
auth_username_format = %n
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """One that runs: its TCP port, its socket, and its mailboxes."""

    port: int
    folder: Path

    @property
    def socket(self) -> Path:
        """Where it speaks LMTP on this machine."""
        return self.folder / "lmtp"

    def mail(self, user: str) -> list[bytes]:
        """The messages in a user's mailbox."""
        return [path.read_bytes() for path in sorted((self.folder / "home" / user / "Maildir" / "new").glob("*"))]


@contextmanager
def dovecot_lmtp(users: Mapping[str, str], *, tempfail: bool = False) -> Iterator[Dovecot]:
    """A Dovecot that knows these users; each has a quota such as `*:storage=1K`, or none when it is empty.

    With `tempfail` a mailbox that is full is a temporary failure.
    """
    dovecot = require("dovecot")
    if not any(map(os.path.exists, _LMTP)):
        lacking("dovecot-lmtpd is not installed")
    require_root()
    folder = Path(tempfile.mkdtemp(prefix="waypost-dovecot-"))  # not pytest's: others than root have to reach it
    folder.chmod(0o755)
    (folder / "home").mkdir(mode=0o755)
    lines = []
    for user, quota in users.items():
        home = folder / "home" / user
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        rule = f"userdb_quota_rule={quota}" if quota else ""
        lines.append(f"{user}::nobody:nogroup::{home}::{rule}\n")
    (folder / "users").write_text("".join(lines))
    port = free_port()
    settings = _SETTINGS.format(folder=folder, port=port, tempfail="yes" if tempfail else "no")
    # Users of the system with low numbers may not have mail, says its default.
    (folder / "dovecot.conf").write_text(settings + "first_valid_uid = 1\nfirst_valid_gid = 1\n")
    try:
        with (folder / "start.log").open("wb") as said:
            process = subprocess.Popen([dovecot, "-F", "-c", folder / "dovecot.conf"], stdout=said, stderr=said)
        try:
            wait_until(lambda: (folder / "lmtp").exists() or process.poll() is not None, "Dovecot's socket", 30)
            assert process.poll() is None, (folder / "start.log").read_text()
            yield Dovecot(port, folder)
        except BaseException:
            for log in ("start.log", "dovecot.log"):
                print(f"--- {log}\n{(folder / log).read_text() if (folder / log).exists() else ''}")
            raise
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
