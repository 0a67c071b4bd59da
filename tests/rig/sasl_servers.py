"""Real SASL servers behind a private Postfix: Cyrus SASL in its process, and Dovecot's beside it."""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rig.certificates import Certificates
from rig.postfix import PostfixInstance
from rig.programs import lacking, require, require_root
from rig.waiting import wait_until

REALM = "postfix.example"
_CYRUS_PLUGINS = ("/usr/lib/x86_64-linux-gnu/sasl2", "/usr/lib/aarch64-linux-gnu/sasl2", "/usr/lib/sasl2")
_JWT_KEY = b"a key that the test and Dovecot share"

_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
auth_verbose = yes
protocols =
ssl = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
"""
_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = email
"""


def _submission(certificates: Certificates) -> dict[str, str]:
    """What a Postfix has in main.cf that takes mail for everywhere from those who log in, inside TLS."""
    return {
        "mynetworks": "",
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_auth_only": "yes",
        "smtpd_tls_cert_file": str(certificates.certificate),
        "smtpd_tls_key_file": str(certificates.key),
        "smtpd_sasl_security_options": "noanonymous",
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
        "default_transport": "discard:",
    }


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="waypost-sasl-"))  # not pytest's: others than root have to reach it
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postfix_with_cyrus(
    passwords: Mapping[str, str], mechanisms: str, certificates: Certificates
) -> Iterator[PostfixInstance]:
    """A Postfix with Cyrus SASL, whose passwords are in a sasldb. User names get `@postfix.example`."""
    saslpasswd = require("saslpasswd2")
    require_root()
    plugins = {path.name for folder in map(Path, _CYRUS_PLUGINS) for path in folder.glob("*.so")}
    for plugin in ("libscram.so", "libcrammd5.so", "libsasldb.so"):
        if plugin not in plugins:
            lacking(f"{plugin} of libsasl2-modules is not installed")
    with _folder() as folder:
        for name, password in passwords.items():
            command = [saslpasswd, "-f", folder / "sasldb2", "-c", "-p", "-u", REALM, name]
            subprocess.run(command, input=password.encode(), check=True, timeout=30)
        shutil.chown(folder / "sasldb2", "postfix")
        lines = (
            "pwcheck_method: auxprop",
            "auxprop_plugin: sasldb",
            f"sasldb_path: {folder / 'sasldb2'}",
            f"mech_list: {mechanisms}",
        )
        main = {"smtpd_sasl_type": "cyrus", "smtpd_sasl_path": "smtpd", "smtpd_sasl_local_domain": REALM}
        # Debian's Postfix looks for smtpd.conf beside its own configuration, whatever cyrus_sasl_config_path says.
        files = {"sasl/smtpd.conf": "".join(f"{line}\n" for line in lines)}
        with PostfixInstance({**_submission(certificates), **main}, files=files) as postfix:
            yield postfix


@contextmanager
def postfix_with_dovecot(
    passwords: Mapping[str, str], mechanisms: str, certificates: Certificates
) -> Iterator[PostfixInstance]:
    """A Postfix that asks a Dovecot of its own. It takes the passwords, and the tokens of `dovecot_token`."""
    dovecot = require("dovecot")
    require_root()
    with _folder() as folder:
        (folder / "users").write_text("".join(f"{name}:{password}::::::\n" for name, password in passwords.items()))
        key = folder / "keys" / "default" / "HS256" / "default"
        key.parent.mkdir(parents=True)
        key.write_text(base64.b64encode(_JWT_KEY).decode())
        (folder / "oauth2.conf").write_text(_OAUTH2.format(folder=folder))
        (folder / "dovecot.conf").write_text(_DOVECOT.format(folder=folder, mechanisms=mechanisms))
        with (folder / "start.log").open("wb") as said:
            process = subprocess.Popen([dovecot, "-F", "-c", folder / "dovecot.conf"], stdout=said, stderr=said)
        try:
            wait_until(lambda: (folder / "auth").exists() or process.poll() is not None, "Dovecot's socket", 30)
            assert process.poll() is None, (folder / "start.log").read_text()
            main = {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": str(folder / "auth")}
            with PostfixInstance({**_submission(certificates), **main}) as postfix:
                yield postfix
        except BaseException:
            for log in ("start.log", "dovecot.log"):
                print(f"--- {log}\n{(folder / log).read_text() if (folder / log).exists() else ''}")
            raise
        finally:
            process.terminate()
            process.wait(20)


def dovecot_token(mailbox: str, *, lifetime: float = 3600) -> str:
    """An access token for a mailbox (a JWT, RFC 7519), for a Dovecot of `postfix_with_dovecot`."""
    now = int(time.time())
    claims = {"email": mailbox, "sub": mailbox, "iat": now - 10, "nbf": now - 10, "exp": int(now + lifetime)}
    signed = b".".join(_url64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.new(_JWT_KEY, signed, hashlib.sha256).digest()
    return (signed + b"." + _url64(signature)).decode()


def _url64(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
