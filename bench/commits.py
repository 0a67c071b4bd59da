"""How many messages share a commit: what a system tells of its store at `/metrics`."""

import urllib.request
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """Messages stored and transactions made durable, since the start or between two looks."""

    messages: int
    commits: int

    def __sub__(self, other: "Stored") -> "Stored":
        return Stored(self.messages - other.messages, self.commits - other.commits)


def read_stored(port: int) -> Stored:
    """Asks at `port` of 127.0.0.1. Raises OSError, and ValueError when the answer lacks what is asked for."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parse_stored(answer.read().decode())


def parse_stored(text: str) -> Stored:
    """The two counters out of Prometheus' text format."""
    values = dict(line.rsplit(" ", 1) for line in text.split("\n") if line and not line.startswith("#"))
    try:
        messages, commits = values["waypost_spool_messages_total"], values["waypost_spool_commits_total"]
    except KeyError as error:
        raise ValueError(f"the metrics say nothing of {error}") from error
    return Stored(int(float(messages)), int(float(commits)))
