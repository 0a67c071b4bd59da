"""`waypost run`: the mail server, until it is told to stop."""

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from waypost.commands import FAILED, FINE, Subparsers, add_command, add_config_option

_EXAMPLES = """\
  waypost run                         with the configuration of the usual places
  waypost run --config waypost.yaml
  SMTP_DUP_RELAY_DESTINATION_PRIMARY=old.example.com:25 waypost run

The usual places, first found first used: $WAYPOST_CONFIG, ./waypost.yaml,
./config.yaml, /etc/waypost/waypost.yaml, /etc/smtp-dup/config.yaml.

SIGTERM and SIGINT let transactions under way end, within shutdown_timeout; a
second one ends at once. Certificates are reread when their files change.
"""

_GARBAGE_THRESHOLD = 50_000  # objects; Python's 700 makes a busy server collect for a tenth of its time


def register(subparsers: Subparsers) -> None:
    """Adds `run`."""
    parser = add_command(
        subparsers, "run", summary="Start: accept mail, relay it, copy it. Logs to standard output.", examples=_EXAMPLES
    )
    add_config_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from waypost.config.load import load
    from waypost.observe.log import configure

    settings = load(arguments.config, os.environ)
    output = configure(settings.log.format, settings.log.level)
    try:
        return run_loop(lambda: _serve(settings, output))
    finally:
        output.close()


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Runs a coroutine on uvloop where there is one, on asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def _serve(settings: Any, output: Any) -> int:
    import structlog

    from waypost import __version__
    from waypost.app import Server
    from waypost.config.control import control_path
    from waypost.delivery.spool import SpoolError
    from waypost.net.certificates import CertificateError

    log = structlog.get_logger()
    for warning in settings.warnings:
        log.warning("configuration", warning=warning)
    _raise_file_limit()
    stopping = asyncio.Event()
    _on_signals(stopping)
    try:
        has_sockets = hasattr(socket, "AF_UNIX")
        server = Server(settings, output, control=control_path(settings, os.environ) if has_sockets else None)
        await server.start()
    except (SpoolError, CertificateError) as error:
        log.error("cannot_start", reason=str(error))
        return FAILED
    except OSError as error:
        log.error("cannot_start", reason=f"{error.strerror or error}" if error.filename is None else str(error))
        return FAILED
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 50)
    log.info("started", version=__version__, pid=os.getpid())
    notify_systemd("READY=1")
    await stopping.wait()
    log.info("stopping")
    notify_systemd("STOPPING=1")
    await server.stop()
    log.info("stopped")
    return FINE


def _on_signals(stopping: asyncio.Event) -> None:
    def stop() -> None:
        if stopping.is_set():
            os._exit(FAILED)  # asked twice: whatever is under way is worth less than ending now
        stopping.set()

    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # A terminal that goes away, or a habit of other daemons: nothing to do with it, but no reason to die.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _raise_file_limit() -> None:
    """As many descriptors as we may have: a session and its upstream take two, a large message a third."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass


def notify_systemd(state: str) -> None:
    """Tells systemd, when it started us with Type=notify (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        try:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.send(state.encode())
        except OSError:
            pass
