"""The address of a PostgreSQL database, as libpq and asyncpg write it: read, and shown without its password."""

import re
from urllib.parse import parse_qs

from waypost.config.errors import WrongValueError
from waypost.config.values import line
from waypost.smtp.sasl import Secret

_EXAMPLE = "write it like postgresql://waypost@db.example.com/waypost"
_ESCAPES = "in a name or password, / ? # @ : % and spaces are written %2F %3F %23 %40 %3A %25 %20"
_FORM = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?", re.ASCII)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]*)(?::[0-9]{1,5})?", re.ASCII)
_PORT = re.compile(r":([0-9]{1,5})(?=,|$)", re.ASCII)
_LAST_PORT = 65535
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_PASSWORD = re.compile(r"((?:^|&)[^=&]*password=)[^&]*", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text is meant as the address of something on the network, not as a path."""
    return "://" in text


def database_url(text: str) -> Secret:
    """The address of a database, with a password in it or not: no error repeats any of it."""
    line(text)
    if text.partition("://")[0] not in ("postgresql", "postgres"):
        raise WrongValueError("is not the address of a PostgreSQL database", _EXAMPLE)
    form = _FORM.fullmatch(text)
    if form is None or " " in text or "@" in text[form.end("authority") :] or _LONE_PERCENT.search(text):
        raise WrongValueError("is not a valid address of a database", _ESCAPES)
    user, _, hosts = form["authority"].rpartition("@")
    if "@" in user or not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise WrongValueError("is not a valid address of a database", _ESCAPES)
    if any(int(port) > _LAST_PORT for port in _PORT.findall(hosts)):
        raise WrongValueError("names a port that there is not", f"ports end at {_LAST_PORT}, and PostgreSQL's is 5432")
    named = parse_qs(form["query"] or "")
    if not form["path"].strip("/") and not {"dbname", "database"} & named.keys():
        raise WrongValueError("names no database", _EXAMPLE)
    return Secret(text)


def masked(url: str, mask: str) -> str:
    """A valid address with `mask` in the place of every password."""
    form = _FORM.fullmatch(url)
    if form is None:
        return mask
    user, at, hosts = form["authority"].rpartition("@")
    name, colon, _ = user.partition(":")
    query = "" if form["query"] is None else "?" + _PASSWORD.sub(rf"\1{mask}", form["query"])
    return f"{form['scheme']}://{name}{colon and f':{mask}'}{at}{hosts}{form['path']}{query}"
