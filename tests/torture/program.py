"""`waypost run` as it is installed, with one crash in it: what the rehearsal starts and kills.

Started as `python -m torture.program --nursery` it imports Waypost once and forks a process for each order that it
reads, which saves the half second that starting Python and importing takes. Each is a process of its own, with its own
loop, threads, sockets and files, and runs `waypost.cli.main(["run", ...])`. Started with an order as its argument
it is that one process, from the beginning.
"""

import gc
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_true_time = time.time
_offset_from = -1


def _time() -> float:
    """The machine's clock, and on top of it what the rehearsal says."""
    if _offset_from < 0:
        return _true_time()
    return _true_time() + float(os.pread(_offset_from, 32, 0) or b"0")


def run(order: dict[str, Any]) -> int:
    """Arms what is ordered, and runs Waypost to its end; the exit code.

    `folder` is the working directory and gets the output, `clock` is a file with seconds to add to the time, `crash`
    is [step, nth, store], `tuned` are values by `module:name`, for pauses that are minutes in earnest.
    """
    global _offset_from
    folder = Path(order["folder"])
    os.chdir(folder)
    for fd, name in ((1, "stdout.log"), (2, "stderr.log")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, fd)
        os.close(file)
    os.environ.update(order.get("env", {}))
    if order.get("clock"):
        _offset_from = os.open(order["clock"], os.O_RDONLY | os.O_CLOEXEC)
    for place, value in order.get("tuned", {}).items():
        _tune(place, value)
    if order.get("crash"):
        _arm(folder, *order["crash"])
    from waypost.cli import main

    return main(["run", "--config", order["config"]])


def _tune(place: str, value: Any) -> None:
    module, _, qualified = place.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = qualified.split(".")
    for each in path:
        owner = getattr(owner, each)
    if path and path[-1] == "__init__":
        if name not in owner.__kwdefaults__:
            raise LookupError(place)
        owner.__kwdefaults__[name] = value
    else:
        getattr(owner, name)
        setattr(owner, name, value)


def _arm(folder: Path, name: str, nth: int, store: Any) -> None:
    from torture.steps import BY_NAME, arm

    mark = os.open(folder / "struck", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def strike() -> None:
        os.write(mark, f"{name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)  # in a thread other than the first, the end may take a moment

    arm(BY_NAME[name], store, nth, strike)


def nursery() -> None:
    """Reads orders and obeys: {"start": order} -> pid, {"poll": pid} -> exit status or null. Ends with its input."""
    for module in ("waypost.app", "waypost.commands.run", "waypost.config.load", "waypost.store.sqlite", "uvloop"):
        importlib.import_module(module)
    for module in ("server", "queue_api", "trace_api"):
        importlib.import_module(f"waypost.admin.{module}")
    importlib.import_module("starlette.applications")
    importlib.import_module("torture.steps")
    try:
        importlib.import_module("waypost.store.postgres")
        importlib.import_module("asyncpg")
    except ImportError:
        pass  # the extra is not installed; nobody will order it
    gc.collect()
    gc.freeze()  # else each child would copy all of this memory when it collects its own garbage
    children: set[int] = set()
    try:
        while line := sys.stdin.readline():
            wish = json.loads(line)
            answer: int | None = None
            if "start" in wish:
                answer = _fork(wish["start"])
                children.add(answer)
            else:
                pid, status = os.waitpid(wish["poll"], os.WNOHANG)
                if pid:
                    children.discard(pid)
                    answer = os.waitstatus_to_exitcode(status)
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the rehearsal, which ends its programs itself
        code = run(order)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    time.time = _time  # before Waypost is imported: some of it keeps the function
    if sys.argv[1] == "--nursery":
        nursery()
    else:
        sys.exit(run(json.loads(sys.argv[1])))
