"""What deciding on a route costs: CPU time of one `Router.route`, for rules of many kinds, of which the last matches.

    python -m bench.rules

The facts are a client's, and differ from decision to decision in recipient, reverse-path and message. A decision that
waits for the content is made twice, at RCPT and at the end; both are counted.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC
from ipaddress import ip_network

from bench.report import about_machine, markdown_table
from waypost.mail.field_values import FieldValues
from waypost.mail.header import Header
from waypost.routing.address_list import AddressList
from waypost.routing.condition import Condition, FieldPatterns, SizeRange, TrafficShare
from waypost.routing.facts import Facts
from waypost.routing.hours import Hours
from waypost.routing.route import Pool, Route, Routes, Rule
from waypost.routing.rules import Router
from waypost.smtp.address import Address

MESSAGES = 2000
COUNTS = (10, 1000)
HEAD = b"".join(b"Received: from a by b with ESMTP id %d\r\n" % number for number in range(4)) + (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?Order_number_4711?=\r\n"
    b"Message-ID: <one@example.com>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nX-Priority: 3\r\n\r\n"
)
ROUTES = {name: Route(name, Pool(name, ()), acceptance="spool") for name in ("some", "rest")}
LIST = AddressList(tuple(f"listed{number}.example" for number in range(100_000)))

Make = Callable[[int], Condition]

KINDS: dict[str, Make] = {
    "recipient, a domain": lambda n: Condition(recipients=(f"d{n}.example",)),
    "recipient, and reverse-path": lambda n: Condition(recipients=(f"d{n}.example",), reverse_paths=(f"s{n}.example",)),
    "account": lambda n: Condition(accounts=(f"account{n}",)),
    "client_network": lambda n: Condition(client_networks=(ip_network(f"10.{n % 250}.{n // 250}.0/24"),)),
    "helo": lambda n: Condition(helos=(f"host{n}.example",)),
    "recipient_file of 100,000": lambda n: Condition(recipient_files=("list",), accounts=(f"account{n}",)),
    "time, each other hours": lambda n: Condition(hours=(Hours(UTC, start=n, end=n + 1),)),
    "percent, of a domain": lambda n: Condition(share=TrafficShare(10, "recipient", f"{n}"), recipients=(f"d{n}.x",)),
    "any of two, one of them nested": lambda n: Condition(
        any_of=(Condition(recipients=(f"d{n}.example",)), Condition(any_of=(Condition(accounts=(f"account{n}",)),)))
    ),
    "not, in a domain": lambda n: Condition(
        recipients=(f"*.d{n}.example",), unless=Condition(reverse_paths=(f"s{n}.example",))
    ),
    "size, in a domain": lambda n: Condition(size=SizeRange(over=5_000_000), recipients=(f"d{n}.example",)),
    "header, a value": lambda n: Condition(fields=(FieldPatterns("x-stream", (f"stream{n}",)),)),
    "header, a pattern, in a domain": lambda n: Condition(
        fields=(FieldPatterns("subject", (f"*{n} urgent*",)),), recipients=(f"d{n}.example",)
    ),
}


def main() -> None:
    """Prints the table."""
    rows = [(title, [_cost(make, count) for count in COUNTS]) for title, make in KINDS.items()]
    early = [make for title, make in KINDS.items() if not title.startswith(("size", "header"))]
    for title, mixed in (("a mixture of those without the content", early), ("a mixture of all", [*KINDS.values()])):
        rows.append((title, [_cost(_mixture(mixed), count) for count in COUNTS]))
    table = markdown_table(("kind of rules", "10 rules, µs", "1,000 rules, µs"), map(_row, rows))
    print("\n".join([*about_machine(), "", *table]))


def _mixture(kinds: list[Make]) -> Make:
    return lambda n: kinds[n % len(kinds)](n)


def _row(row: tuple[str, list[float]]) -> list[str]:
    return [row[0], *(f"{cost:.1f}" for cost in row[1])]


def _cost(make: Make, count: int) -> float:
    """Microseconds for the decisions of one message."""
    rules = [_rule(make(number)) for number in range(count - 1)]
    router = Router(Routes((*rules, Rule("rest")), ROUTES, {}, lists={"list": LIST}))
    return min(_round(router) for _ in range(5))


def _rule(condition: Condition) -> Rule:
    return Rule("some", **{name: getattr(condition, name) for name in Condition.__slots__})


def _round(router: Router) -> float:
    seen = list(itertools.islice(_facts(), MESSAGES))
    began = time.process_time()
    for facts in seen:
        if router.route(facts).is_open:
            router.route(replace(facts, size=1000, header=FieldValues(Header(HEAD))))
    return (time.process_time() - began) / MESSAGES * 1e6


def _facts() -> Iterable[Facts]:
    for number in itertools.count():
        sender, recipient = Address("ann", f"sender{number % 500}.example"), Address("bob", f"r{number % 500}.example")
        yield Facts("25", "app", "192.0.2.1", sender, recipient, "client.example", f"id{number}", 1.7e9 + number / 50)


if __name__ == "__main__":
    sys.exit(main())
