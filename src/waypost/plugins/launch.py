"""Becomes a plugin's program, with a limit of memory, and bound to the life of the server.

Run as a script by a Python of its own, `launch.py PARENT MEMORY PROGRAM ARGUMENTS...`, and imports nothing of Waypost.
A function between fork and exec (`preexec_fn`) could do the same only by copying the server's memory map, and is not
safe beside threads.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Limits itself, and becomes the program. `MEMORY` is in octets; 0 is no limit."""
    parent, memory, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    _die_with(parent)
    if memory:
        _limit_memory(memory)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a program would inherit that
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        print(f"cannot be started: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def _die_with(parent: int) -> None:
    """Asks Linux to kill this process when the server is gone, however it went; elsewhere stdin ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before it could be asked
        sys.exit(1)


def _limit_memory(octets: int) -> None:
    """What can be written is limited, not address space: programs in Go or Java reserve far more than they use."""
    import resource

    limit = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    try:
        resource.setrlimit(limit, (octets, octets))
    except (ValueError, OSError) as error:
        print(f"its memory cannot be limited: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
