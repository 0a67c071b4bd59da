"""What smtpmux asks its selectors, and how their answers are understood.

A selector gets the list of downstreams and returns those to try, in order. Before that interface a release of smtpmux
had one whose answer was a single address: such plugins are understood too.
"""

from waypost.plugins.downstreams import upstream_at
from waypost.plugins.goplugin.gob import Builtin, Slice, Struct
from waypost.plugins.port import NonsenseError, Order, Question, checked_order

METHOD = "Plugin.Select"
PLUGIN = "selector"
"""The name under which a selector is asked for."""

DOWNSTREAMS = Slice(
    Struct("Downstream", (("Addr", Builtin.STRING), ("User", Builtin.STRING), ("Pass", Builtin.STRING)))
)


def downstreams(question: Question) -> list[dict[str, str]]:
    """The list for the selector: where to, as whom, and never with which password."""
    return [{"Addr": facts.address, "User": facts.login, "Pass": ""} for facts in question.upstreams]


def order_of(value: object, question: Question) -> Order:
    """The order that a selector's answer means. Raises `NonsenseError`.

    As in smtpmux, those that it leaves out are not tried. One that comes twice is tried once: what it answered the
    first time, it would answer again.
    """
    if isinstance(value, str):
        value = [{"Addr": value}]
    if not isinstance(value, list):
        raise NonsenseError("it answers with something that is no list of downstreams")
    names = []
    for item in value:
        if not isinstance(item, dict):
            raise NonsenseError("it answers with something that is no list of downstreams")
        names.append(upstream_at(item.get("Addr", ""), item.get("User", ""), question).name)
    return checked_order(dict.fromkeys(names), question)
