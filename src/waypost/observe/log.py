"""Sets up where records go: operational ones by structlog, those of other libraries by `logging`, mail's own.

    log = structlog.get_logger()
    log.info("listening", address="127.0.0.1:2525")

All of them are written by one `Output`. Operational records have a level that can be set; mail events do not
pass here (`waypost.observe.maillog`) and are always written.
"""

import atexit
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, Literal

import structlog

from waypost.observe.output import Output
from waypost.observe.record import Record, colour_line, console_line, json_line, timestamp

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_SHOWN = 200  # characters


def configure(
    form: Format = "auto", level: Level = "info", *, fd: int | None = None, environ: Mapping[str, str] = os.environ
) -> Output:
    """Makes every record of this process go to `fd` (default: standard output), and returns the way there.

    `auto` is JSON unless `fd` is a terminal. Colours are for terminals, and not when NO_COLOR is set or TERM
    is `dumb`. What is waiting is written when the process ends.
    """
    fd = _standard_output() if fd is None else fd
    terminal = os.isatty(fd)
    if form == "json" or (form == "auto" and not terminal):
        render = json_line
    elif terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb":
        render = colour_line
    else:
        render = console_line
    output = Output(fd, render)
    _lead_structlog(output, level)
    _lead_logging(output, level)
    _lead_unraisable()
    atexit.register(output.close)
    return output


def _standard_output() -> int:
    if sys.stdout is None:  # closed before we started: its number may belong to a socket by now
        return os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    return sys.stdout.fileno()


class _Last:
    """What structlog takes for a logger: every level goes to the output; the record knows its own."""

    def __init__(self, output: Output) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = output.emit


def _lead_structlog(output: Output, level: Level) -> None:
    last = _Last(output)
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _to_record],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: last,
        cache_logger_on_first_use=False,  # a logger made at import must follow a later `configure`
    )


def _to_record(_: Any, level: str, facts: structlog.typing.EventDict) -> tuple[tuple[Record], dict[str, Any]]:
    event = facts.pop("event", "")
    return ({"time": timestamp(time.time()), "level": level, "event": event, **facts},), {}


def _lead_unraisable() -> None:
    """What Python could raise nowhere becomes one record, where it would print a traceback in between.

    Anybody may bring that about: the name that a client asks for in its TLS handshake need not be a name.
    """

    def told(what: "sys.UnraisableHookArgs") -> None:
        error = f"{what.exc_type.__name__}: {what.exc_value}"
        structlog.get_logger().warning("not_raised", error=error[:_SHOWN], about=repr(what.object)[:_SHOWN])

    sys.unraisablehook = told


class _Bridge(logging.Handler):
    """Takes what libraries say by `logging`."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # their format string and their arguments, whatever these do
            event = str(record.msg)
        made: Record = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": event,
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1]:
            made["exception"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        self._output.emit(made)


def _lead_logging(output: Output, level: Level) -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(output))
    root.setLevel(level.upper())
    for name in ("asyncio", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.WARNING, root.level))  # their everyday talk is about things we tell ourselves
    logging.captureWarnings(True)
