"""Checks of accounts: their passwords and certificates, the file of more of them, and how they log in."""

from waypost.config.check_listeners import called, resolve
from waypost.config.errors import Path
from waypost.config.report import Report
from waypost.config.schema import Configuration
from waypost.config.schema_accounts import AccountsFileSection
from waypost.net.accounts_file import FileContent, read_file
from waypost.net.certificates import CertificateError, check_authorities
from waypost.net.passwords import PasswordError, from_configuration, looks_like
from waypost.smtp.sasl import Secret

_TOLD = 20  # lines of a file, at most


def check(model: Configuration, report: Report) -> None:
    """Reports what is wrong with how clients say who they are."""
    if model.accounts_file is not None and not report.is_lost("accounts_file"):
        _check_file(model.accounts_file, report)
    _check_certificates(model, report)
    for index in range(len(model.listeners)):
        _check_listener(index, model, report)


def secrets(model: Configuration, report: Report) -> dict[Path, Secret]:
    """The passwords of the accounts, or their hashes, by path."""
    found = {}
    for name, account in model.accounts.items():
        here: Path = ("accounts", name)
        if account.certificate and account.password is None and account.password_file is None:
            continue
        secret = resolve(here, account.password, account.password_file, report)
        if secret is None:
            continue
        where = "password" if account.password is not None else "password_file"
        scheme = looks_like(secret.reveal())
        if scheme is not None:
            text = f"looks like a hash ({scheme}), and is taken for the password itself"
            report.warn((*here, where), text, "use a hash of `waypost hash-password`, or an `accounts_file`")
        try:
            from_configuration(secret.reveal())
        except PasswordError as error:
            is_lacking = "needs the Python package" in str(error)
            report.problem((*here, where), str(error), "" if is_lacking else "was it cut off, or not quoted?")
        found[here] = secret
    return found


def _check_file(section: AccountsFileSection, report: Report) -> None:
    here: Path = ("accounts_file", "path")
    try:
        content = read_file(section.path, section.format)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        report.problem(here, f"cannot read {section.path}: {why}")
        return
    _warn_of(content, section.path, here, report)


def _warn_of(content: FileContent, path: str, here: Path, report: Report) -> None:
    for line in content.bad[:_TOLD]:
        whom = f"account {line.account[:60]!r} is refused: " if line.account else ""
        report.warn(here, f"{path}:{line.number}: {whom}{line.why}")
    if len(content.bad) > _TOLD:
        report.warn(here, f"{path}: {len(content.bad) - _TOLD} further lines cannot be used")
    if content.weak:
        schemes = ", ".join(content.weak)
        advice = "let their owners set a new one: `htpasswd -B`, `doveadm pw -s BLF-CRYPT`, `waypost hash-password`"
        report.warn(here, f"has passwords in weak schemes ({schemes}), soon found by whoever gets the file", advice)
    if not content.passwords:
        report.warn(here, f"{path} has no account that can be used")


def _check_certificates(model: Configuration, report: Report) -> None:
    seen: dict[str, str] = {}
    for name, account in model.accounts.items():
        for index, certificate in enumerate(account.certificate):
            path: Path = ("accounts", name, "certificate", index)
            if certificate in seen:
                report.problem(
                    path, f"stands for the account {seen[certificate]} already", "it can be one account's only"
                )
            seen.setdefault(certificate, name)
    asked = [listener for listener in model.listeners if listener.client_certificates and listener.mode == "submission"]
    if seen and not asked and not report.is_lost("listeners"):
        first = next(iter(seen.values()))
        text = "has no effect: no submission listener asks for certificates"
        report.warn(("accounts", first, "certificate"), text, "set `client_certificates` on one")


def _check_listener(index: int, model: Configuration, report: Report) -> None:
    here: Path = ("listeners", index)
    listener = model.listeners[index]
    asked = listener.client_certificates
    if listener.mode == "relay" and listener.mechanisms and not report.is_lost(*here, "mode"):
        report.problem((*here, "mechanisms"), "means nothing to a relay listener, where nobody authenticates")
    elif "external" in listener.mechanisms and asked is None and not report.is_lost(*here, "client_certificates"):
        text = "`external` is about certificates, and this listener asks for none"
        report.problem((*here, "mechanisms"), text, "set `client_certificates`")
    if asked is None:
        return
    path: Path = (*here, "client_certificates")
    has_tls = listener.tls.mode != "off" and (listener.tls.certificate is not None or model.tls is not None)
    if not has_tls and not report.given("tls") and not report.is_lost(*here, "tls"):
        text = f"means nothing to {called(index, model, report)}, which has no TLS"
        report.problem(path, text, "set `tls` with `certificate` and `key`")
    try:
        check_authorities(asked.ca_file)
    except CertificateError as error:
        report.problem((*path, "ca_file"), str(error))
