"""Newsletters go out by the provider for bulk mail, everything else by the best provider that has quota left.

    plugins:
      by_header: {python: examples/plugins/by_header.py, needs: content}
    pools:
      providers: {plugin: by_header, upstreams: [office, bulk]}
    routes:
      all: {primary: providers, acceptance: hybrid}

What a person writes may not go out by `bulk` at all: that upstream is left out, so mail waits for `office` instead.
"""

from waypost.plugins import Question, refuse

BULK = "bulk"
LARGEST_NEWSLETTER = 200_000


def choose(question: Question):
    """The order for one message; called once for each that is tried, again with every attempt."""
    header = question.header
    names = [upstream.name for upstream in sorted(question.upstreams, key=lambda each: each.quota_used)]
    if header.get("List-Unsubscribe") is None:
        return [name for name in names if name != BULK] or names
    if question.size > LARGEST_NEWSLETTER:
        return refuse("A newsletter has at most 200 kB; link to pictures instead of sending them", 552, "5.3.4")
    return [BULK, *(name for name in names if name != BULK)]
