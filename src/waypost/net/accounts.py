"""Who may log in: the accounts of the configuration, and those of a file that is read again when it changes."""

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from waypost.net.accounts_file import FileContent, read_file
from waypost.net.passwords import Stored, from_configuration
from waypost.net.settings import AccountsFile
from waypost.routing.route import Account
from waypost.smtp.sasl import SaslError
from waypost.smtp.sasl_server import SCRAM, WITH_PASSWORD
from waypost.smtp.scram_server import Verifier

log = structlog.get_logger()

_LOOK_EVERY = 1.0  # seconds
_MAX_DERIVED = 1000
_ASIDE = 256 * 1024  # octets of a file that is read in a thread: ten thousand accounts take a tenth of a second
_NOTHING = FileContent({}, ())


@dataclass(frozen=True, slots=True)
class Entry:
    """An account and what is stored of its password."""

    account: Account
    stored: Stored = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Known:
    """All accounts at one moment, and what follows from them."""

    entries: dict[str, Entry]
    in_order: list[Stored]
    with_scram: list[Stored]
    key: bytes


class Accounts:
    """Every account with a password. `now` is a monotonic clock, in seconds.

    Whatever is answered about a name that is no account is made like what is answered about one of the accounts,
    chosen by a keyed hash of the name: always the same one for a name, and as often a slow one as there are slow
    ones. The key follows from what is stored of the first account, so that it is the same after a restart.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        now: Callable[[], float],
        file: AccountsFile | None = None,
        template: Account | None = None,
    ) -> None:
        self._configured = {
            name: Entry(account, from_configuration(account.password))
            for name, account in accounts.items()
            if account.password
        }
        self._now = now
        self._file = file
        self._template = template
        self._stamp: tuple[int, ...] | None = None
        self._looked = -_LOOK_EVERY
        self._seen: tuple[int, ...] | None = None  # a change that was not believed yet
        self._reading: asyncio.Future[tuple[FileContent, _Known]] | None = None
        self._derived: OrderedDict[tuple[str, str], Verifier] = OrderedDict()
        self._content = _NOTHING
        self._known = self._put_together(_NOTHING)
        self.refresh()

    def __len__(self) -> int:
        return len(self._known.entries)

    def find(self, name: str) -> Entry | None:
        """The account of this name."""
        return self._known.entries.get(name)

    def decoy(self, name: str) -> Stored | None:
        """What a password for `name`, which is no account, is compared with, in vain; None without any account."""
        return self._one_of(self._known.in_order, name)

    def mechanisms(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """What to offer: of `wanted` what at least one account can use; when nothing is wanted, what all can use.

        A client takes the strongest that is offered: one account in plain text must not take PLAIN from the others.
        """
        self.refresh()
        if not self._known.entries:
            return ()
        if wanted:
            return tuple(name for name in wanted if name in WITH_PASSWORD or (name == SCRAM and self._known.with_scram))
        return (*WITH_PASSWORD, SCRAM) if len(self._known.with_scram) == len(self._known.entries) else WITH_PASSWORD

    def verifier(self, name: str) -> Verifier:
        """What SCRAM needs of the account; something like it, always the same, for a name that has none."""
        entry = self._known.entries.get(name)
        stored = entry.stored if entry is not None and entry.stored.takes_scram else None
        if stored is not None and stored.verifier is not None:
            return stored.verifier
        password = None if stored is None else stored.password
        like = stored or self._one_of(self._known.with_scram, name)
        if like is not None and like.verifier is not None:
            salt = self._secret("salt", name)[: len(like.verifier.salt)].ljust(len(like.verifier.salt), b"\0")
            return replace(like.verifier, salt=salt, stored_key=self._secret("key", name))
        # A password in plain text is derived from, once; so is one that nobody knows, to take as long.
        key = (name, password or "")
        known = self._derived.get(key)
        if known is None:
            nobody_knows = self._secret("password", name).hex()
            salt = self._secret("salt", name)[:16]
            try:
                known = Verifier.derive(password or nobody_knows, salt)
            except SaslError:  # a password that SCRAM cannot carry
                known = Verifier.derive(nobody_knows, salt)
            self._derived[key] = known
            if len(self._derived) > _MAX_DERIVED:
                self._derived.popitem(last=False)
        return known

    # -- the file

    def refresh(self) -> None:
        """Reads the file again when it has changed; looks once a second. One that cannot be read changes nothing.

        A large one is read in a thread, and counts when that is done.
        """
        file, now = self._file, self._now()
        if file is None or now - self._looked < _LOOK_EVERY or self._reading is not None:
            return
        self._looked = now
        try:
            stat = os.stat(file.path)
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._stamp:
                return
            if stat.st_size > _ASIDE and self._stamp is not None and (loop := _running_loop()) is not None:
                self._reading = loop.run_in_executor(None, self._read, file)
                self._reading.add_done_callback(partial(self._was_read, file, stamp))
                return
            self._take(file, stamp, *self._read(file))
        except (OSError, ValueError) as error:
            self._was_not_read(file, error)

    def _read(self, file: AccountsFile) -> tuple[FileContent, _Known]:
        content = read_file(file.path, file.format)
        return content, self._put_together(content)

    def _was_read(
        self, file: AccountsFile, stamp: tuple[int, ...], reading: "asyncio.Future[tuple[FileContent, _Known]]"
    ) -> None:
        self._reading = None
        if reading.cancelled():
            return
        error = reading.exception()
        if error is None:
            self._take(file, stamp, *reading.result())
        elif isinstance(error, OSError | ValueError):
            self._was_not_read(file, error)
        else:
            raise error

    def _was_not_read(self, file: AccountsFile, error: Exception) -> None:
        if self._stamp != ():
            self._stamp = ()  # said once; whatever is there next is read
            log.error("accounts_not_read", file=file.path, reason=str(error), advice="the old ones stay in use")

    def _take(self, file: AccountsFile, stamp: tuple[int, ...], content: FileContent, known: _Known) -> None:
        is_same_file = bool(self._stamp) and self._stamp is not None and stamp[1] == self._stamp[1]
        if is_same_file and stamp != self._seen and self._content.passwords.keys() - content.passwords.keys():
            # `htpasswd` writes over the old file. What is missing may be on its way: the next look will tell.
            self._seen = stamp
            return
        first, self._stamp = self._stamp is None, stamp
        for line in () if first else content.bad:  # the check of the configuration has said it when it was read first
            # The file's own words are not repeated: there may be a password in the wrong place.
            log.warning("account_refused", file=f"{file.path}:{line.number}", account=line.account, reason=line.why)
        self._content, self._known = content, known
        self._derived.clear()
        if not first:
            log.info("accounts_read", file=file.path, accounts=len(content.passwords), refused=len(content.bad))

    def _put_together(self, content: FileContent) -> _Known:
        template = self._template or Account("")
        entries = {
            name: Entry(replace(template, name=name), stored)
            for name, stored in content.passwords.items()
            if name not in self._configured
        }
        entries = {**self._configured, **entries}
        in_order = [entry.stored for entry in entries.values()]
        first = in_order[0].identity if in_order else ""
        key = hashlib.sha256(b"waypost names\0" + first.encode("utf-8", "surrogateescape")).digest()
        return _Known(entries, in_order, [stored for stored in in_order if stored.takes_scram], key)

    # -- names that are no accounts

    def _one_of(self, stored: Sequence[Stored], name: str) -> Stored | None:
        if not stored:
            return None
        return stored[int.from_bytes(self._secret("decoy", name)[:8], "big") % len(stored)]

    def _secret(self, purpose: str, name: str) -> bytes:
        return hmac.digest(self._known.key, f"{purpose}\0{name}".encode("utf-8", "surrogatepass"), "sha256")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
