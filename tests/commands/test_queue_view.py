"""How deliveries look, whatever is in them and however wide the terminal is."""

import argparse
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.admin.filters import BadRequestError, read_request
from waypost.commands import queue_view as view
from waypost.commands.queue_options import add_filters, query, wanted

NOW = 1_800_000_000.0


def row(**changes):
    """A delivery as the API lists it."""
    return {
        "number": 17,
        "id": "06H02FAVX47CCNYM",
        "lane": "copy:new",
        "state": "queued",
        "attempts": 3,
        "received_at": "2027-01-15T06:00:00.000Z",
        "next_attempt_at": "2027-01-15T08:30:00.000Z",
        "reverse_path": "app@example.com",
        "recipients": ["bob@example.net"],
        "size": 3456,
        "reason": "451 4.3.2 not now",
        "in_doubt": None,
        **changes,
    }


def lines_of(found, width):
    """What a list says of one delivery, without the heading."""
    return list(view.Listing(width, NOW).lines(found))[1:]


def test_two_lines():
    assert lines_of(row(), 79) == [
        "    17  queued   2h00m      3    30m   3.4K  app@example.com -> bob@example.net",
        "        451 4.3.2 not now",
    ]


def test_columns_are_as_wide_as_numbers():
    listing = view.Listing(80, NOW)

    assert list(listing.lines(row(number=65_536_000_000, reason=""))) == [
        "     NUMBER  STATE      AGE  TRIES   NEXT   SIZE  SENDER -> RECIPIENTS",
        "65536000000  queued   2h00m      3    30m   3.4K  app@exampl... -> bob@exampl...",
    ]
    assert list(listing.lines(row(next_attempt_at=None, state="held"))) == [
        "         17  held     2h00m      3      -   3.4K  app@exampl... -> bob@exampl...",
        "             451 4.3.2 not now",
    ]


def test_in_doubt_comes_first():
    assert lines_of(row(in_doubt="gmail"), 79)[1:] == ["        in doubt: gmail may have it; 451 4.3.2 not now"]
    assert lines_of(row(reason=""), 79)[1:] == []


@pytest.mark.parametrize(
    ("left", "right", "more", "space", "shown"),
    [
        ("a@b", "c@d", "", None, "a@b -> c@d"),
        ("aaaaaaaaaa", "b@c", "", 14, "aaaa... -> b@c"),
        ("a@b", "cccccccccc", "", 14, "a@b -> cccc..."),
        ("aaaaaaaaaa", "cccccccccc", "", 18, "aaaa... -> cccc..."),
        ("aaaaaaaaaa", "cccccccccc", " +3", 21, "aaaa... -> cccc... +3"),
    ],
)
def test_the_longer_address_is_cut(left, right, more, space, shown):
    assert view.join_cut(left, right, more, space) == shown


ADDRESSES = st.text(st.characters(codec="utf-8"), max_size=80)


@given(
    st.integers(72, 200),
    ADDRESSES,
    st.lists(ADDRESSES, max_size=4),
    st.text(max_size=300),
    st.none() | ADDRESSES,
    st.integers(1, 10**12),
)
def test_no_line_is_wider_than_the_terminal(width, sender, recipients, reason, doubt, number):
    found = row(reverse_path=sender, recipients=recipients, reason=reason, in_doubt=doubt, number=number)

    lines = list(view.Listing(width, NOW).lines(found))

    assert all(len(line) <= width for line in lines)
    assert 2 <= len(lines) <= 3


@given(st.text())
def test_nothing_that_is_printed_can_steer_a_terminal(text):
    assert all(character.isprintable() or character == "\t" for character in view.plain(text))
    if text.isprintable():
        assert view.plain(text) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h00m"), (7500, "2h05m"),
        (36000, "10h"), (86399, "23h"), (86400, "1d00h"), (3 * 86400 + 4 * 3600, "3d04h"), (10 * 86400, "10d"),
    ],
)  # fmt: skip
def test_ages(seconds, shown):
    assert view.age(seconds) == shown


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (0, "0"), (999, "999"), (1000, "1.0K"), (3456, "3.4K"), (10_239, "10K"), (1_023_000, "999K"),
        (1_023_999, "1.0M"), (50 * 1024**2, "50M"), (3 * 1024**3, "3.0G"),
    ],
)  # fmt: skip
def test_sizes(octets, shown):
    assert view.short_size(octets) == shown


@given(st.floats(0, 99_999 * 86400), st.integers(0, 10**15))
def test_ages_and_sizes_fit_their_columns(seconds, octets):
    assert len(view.age(seconds)) <= 6
    assert len(view.short_size(octets)) <= 5


@given(st.floats(0, 4e9))
def test_times_are_read_as_they_are_written(moment):
    written = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert view.seconds(written) == pytest.approx(moment, abs=0.001)


# -- from the command line to the filter


PRINTABLE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.isprintable)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "--route": PRINTABLE,
            "--sender": PRINTABLE,
            "--recipient": PRINTABLE,
            "--error": PRINTABLE,
            "--state": st.sampled_from(["queued", "running", "held", "dead"]),
            "--older-than": st.integers(1, 10**6).map("{}s".format),
            "--limit": st.integers(1, 10**9).map(str),
        },
    ),
    st.lists(st.integers(0, 10**17), max_size=5),
)
def test_what_is_typed_is_what_is_asked(options, numbers):
    parser = argparse.ArgumentParser()
    add_filters(parser)
    words = [f"{option}={value}" for option, value in options.items()] + [str(number) for number in numbers]
    chosen = dict(query_as_lists(query(wanted(parser.parse_args(words)))))

    request = read_request(chosen, NOW, lambda upstream: None)

    where = request.where
    assert where.routes == ({options["--route"]} if "--route" in options else None)
    assert where.sender == options.get("--sender")
    assert where.recipient == options.get("--recipient")
    assert where.reason == options.get("--error")
    assert where.states == ({options["--state"]} if "--state" in options else None)
    assert where.ids == (set(numbers) or None)
    age = options.get("--older-than")
    assert where.received_before == (None if age is None else NOW - int(age[:-1]))
    assert request.limit == (int(options["--limit"]) if "--limit" in options else None)
    assert request.is_everything is (not numbers and set(options) <= {"--limit"})


def query_as_lists(pairs):
    """Each name with all of its values, as a query string is read."""
    return {name: [value for other, value in pairs if other == name] for name, _ in pairs}.items()


@given(
    st.dictionaries(
        st.sampled_from(["number", "id", "lane", "upstream", "state", "older_than", "after", "limit", "sender", "x"]),
        st.lists(st.text(max_size=30), max_size=3),
    )
)
def test_any_parameters_are_a_filter_or_a_bad_request(given_):
    try:
        request = read_request(given_, NOW, {"a": frozenset({"copy:a"})}.get)
    except BadRequestError:
        return
    assert "x" not in given_
    assert all(values for values in given_.values())
    assert request.after >= 0
    assert request.limit is None or request.limit >= 1
