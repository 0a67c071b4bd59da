"""`waypost sink`: a test server that keeps what it gets and fails on request."""

import argparse
import sys
from typing import TYPE_CHECKING

from waypost.commands import FAILED, FINE, USAGE, Subparsers, add_command

if TYPE_CHECKING:
    from waypost.sink.answers import Watcher
    from waypost.sink.server import Sink, SinkSettings

_EXAMPLES = """\
  waypost sink                                   a line for each message
  waypost sink --verbose --http 127.0.0.1:8080   the dialogue, and a page
  waypost sink --fault 'rcpt=550 5.1.1 No such user to:*@nowhere.example'
  waypost sink --fault 'mail=451 4.3.0 first:2' --fault 'data=delay 5'
  waypost sink --lmtp --listen unix:/tmp/lmtp --fault 'verdict=452 4.2.2 Full'
  waypost sink --fault dot=hang --fault 'quit=close chance:10%'

a fault is PHASE=ACTION CONDITION...
  phases:      connect greeting ehlo starttls auth mail rcpt data content dot
               after-dot (the message is kept, the answer not given) rset quit
               verdict (dot, for each recipient, where each is answered: with
               --lmtp, and for clients that say PRDR)
  actions:     CODE [ENHANCED] [TEXT]    this answer instead
               close-after [CODE ...]    an answer, then hang up
               delay SECONDS             a late answer
               hang                      no answer, ever
               close                     hang up without an answer
               garbage [KIND]            binary, endless, mismatch, unsolicited
  conditions:  to:GLOB from:GLOB         only for these (may be repeated)
               first:N every:N chance:P  not each time
               after:N                   once N messages are kept
The first fault that applies counts; delays come on top. At content, hang means
that nothing more is read, and close comes before the dot.

over HTTP:
  GET / /count /messages /messages/ID /messages/ID/content /faults
  DELETE /messages           forgets them
  POST /faults               other rules, one on each line:
                             curl -d 'dot=close' http://127.0.0.1:8080/faults
"""


def register(subparsers: Subparsers) -> None:
    """Adds `sink`."""
    parser = add_command(
        subparsers,
        "sink",
        summary="A test server: accepts mail from everybody, keeps it, delivers nothing.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        help="or unix:/path; default 127.0.0.1:2525; may be repeated; port 0: any",
    )
    add("--lmtp", action="store_true", help="speak LMTP, with an answer for each recipient, in place of SMTP")
    add("--http", metavar="HOST:PORT", help="show the messages over HTTP")
    add("--verbose", action="store_true", help="show every line that is said")
    add("--content", action="store_true", help="show the content of each message below its line")
    add("--fault", metavar="RULE", action="append", default=[], help="what to do wrong (see below); may be repeated")
    add("--seed", metavar="N", type=_whole, default=1, help="where chance: begins (default: 1)")
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--keep", metavar="N", type=_whole, default=1000, help="messages (default: 1000)")
    kept.add_argument("--max-memory", metavar="SIZE", type=_octets, default=2**28, help="in memory (default: 256M)")
    kept.add_argument("--directory", metavar="DIR", help="write each message to DIR, as .eml and .json")
    offers = parser.add_argument_group("what is offered")
    offers.add_argument("--name", default="sink.example", help="host name in the greeting (default: sink.example)")
    offers.add_argument("--tls", choices=("starttls", "implicit"), help="needs --certificate and --key")
    offers.add_argument("--certificate", metavar="FILE", help="certificate chain, PEM")
    offers.add_argument("--key", metavar="FILE", help="its key, PEM")
    offers.add_argument("--auth", metavar="USER:PASSWORD", action="append", default=[], help="then AUTH is required")
    offers.add_argument("--size", metavar="SIZE", type=_octets, default=50 * 2**20, help="largest (default: 50M)")
    for name in ("pipelining", "8bitmime", "smtputf8", "chunking", "dsn", "prdr"):
        offers.add_argument(f"--no-{name}", action="store_true", help=f"do not offer {name.upper()}")
    parser.set_defaults(run=_sink)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**12):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _octets(text: str) -> int:
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 1)
    return _whole(text if factor == 1 else text[:-1]) * factor


def _sink(arguments: argparse.Namespace) -> int:
    from waypost.commands.run import run_loop
    from waypost.net.certificates import CertificateError
    from waypost.sink.grammar import FaultError, parse_faults

    try:
        settings = _settings(arguments)
        faults = parse_faults(arguments.fault)
        http = None if arguments.http is None else _address("--http", arguments.http)
        watcher = _watcher(arguments)
    except (FaultError, _UsageError) as error:
        print(f"waypost sink: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"waypost sink: {arguments.directory}: {error.strerror}", file=sys.stderr)
        return FAILED

    async def serve() -> int:
        from waypost.sink.server import Sink

        try:
            return await _serve(Sink(settings, faults=faults, watcher=watcher), http)
        except CertificateError as error:
            print(f"waypost sink: {error}", file=sys.stderr)
        except OSError as error:
            print(f"waypost sink: cannot listen: {error.strerror or error}", file=sys.stderr)
        return FAILED

    return run_loop(serve)


class _UsageError(Exception):
    """The options do not fit together."""


def _settings(arguments: argparse.Namespace) -> "SinkSettings":
    from waypost.net.settings import ServerTls
    from waypost.sink.server import SinkSettings
    from waypost.smtp.order import ServerOptions

    tls = None
    if arguments.certificate and arguments.key:
        tls = ServerTls(arguments.certificate, arguments.key)
    if (tls is None) != (arguments.tls is None) or bool(arguments.certificate) != bool(arguments.key):
        raise _UsageError("--tls, --certificate and --key belong together")
    accounts = dict(each.partition(":")[::2] for each in arguments.auth)
    if not all(name and password for name, password in accounts.items()):
        raise _UsageError("--auth takes USER:PASSWORD")
    name = arguments.name
    if not name or not name.isprintable() or " " in name:
        raise _UsageError(f"--name {name!r} cannot be a host name")
    return SinkSettings(
        addresses=tuple(_address("--listen", each) for each in arguments.listen or ["127.0.0.1:2525"]),
        options=ServerOptions(
            name,
            max_size=arguments.size,
            pipelining=not arguments.no_pipelining,
            eightbitmime=not arguments.no_8bitmime,
            smtputf8=not arguments.no_smtputf8,
            chunking=not arguments.no_chunking,
            dsn=not arguments.no_dsn,
            prdr=not arguments.no_prdr,
            lmtp=arguments.lmtp,
        ),
        tls=tls,
        implicit_tls=arguments.tls == "implicit",
        accounts=accounts,
        keep=arguments.keep,
        max_memory=arguments.max_memory,
        seed=arguments.seed,
    )


def _address(option: str, text: str) -> tuple[str, int]:
    if option == "--listen" and text.startswith("unix:/"):
        return text.removeprefix("unix:"), 0
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise _UsageError(f"{option} takes HOST:PORT, such as 127.0.0.1:2525 or [::1]:0, not {text!r}")
    return host, int(port)


def _watcher(arguments: argparse.Namespace) -> "Watcher":
    """Who writes messages down. Raises `OSError` for a folder that cannot be used."""
    from pathlib import Path

    from waypost.commands.foreground import has_colours, say
    from waypost.sink.answers import Watchers
    from waypost.sink.directory import Directory
    from waypost.sink.terminal import Terminal

    terminal = Terminal(say, verbose=arguments.verbose, content=arguments.content, colours=has_colours(sys.stdout))
    if arguments.directory is None:
        return terminal
    return Watchers(Directory(Path(arguments.directory)), terminal)


async def _serve(sink: "Sink", http: tuple[str, int] | None) -> int:
    import asyncio

    from waypost.commands.foreground import say, shown_address, until_stopped

    await sink.start()
    for host, port in sink.addresses:
        say(f"listening on {shown_address(host, port)}\n")
    server = None
    try:
        if http is not None:
            from waypost.admin.server import AdminServer, bind
            from waypost.sink.web import make_app

            listening = bind(*http)
            say(f"messages at http://{shown_address(http[0], listening.getsockname()[1])}/\n")
            server = AdminServer(make_app(sink))
            task = asyncio.create_task(server.serve(listening))
        await until_stopped()
    finally:
        await sink.stop()
        if server is not None:
            server.stop()
            await task
    return FINE
