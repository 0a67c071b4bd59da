"""Which file system a folder lies on: one in memory is no place for mail."""

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


def temporary_file_system(path: Path) -> str | None:
    """The name of the file system that `path` lies on, or would, when it is lost with the machine's memory.

    None also when that cannot be found out: /proc/self/mountinfo is Linux's (proc(5)).
    """
    try:
        mounts = _MOUNTS.read_bytes()
    except OSError:
        return None
    name = _file_system(path.resolve(), mounts)
    return name if name in _IN_MEMORY else None


def _file_system(path: Path, mounts: bytes) -> str | None:
    """The type of what is mounted nearest above `path`; of several at one place, the last one hides the others."""
    found, depth = None, -1
    for line in mounts.decode("utf-8", "surrogateescape").split("\n"):
        front, dash, back = line.partition(" - ")
        fields, kind = front.split(" "), back.partition(" ")[0]
        if not dash or len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        if len(point.parts) >= depth and path.is_relative_to(point):
            found, depth = kind, len(point.parts)
    return found


def _unescaped(field: str) -> str:
    """Space, tab, line feed and backslash are written as octal numbers there."""
    for octal, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace("\\" + octal, character)
    return field
