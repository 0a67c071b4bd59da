"""Addresses by RFC 5321's grammar, and what is let through beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import examples
from waypost.smtp.address import NULL, Address, AddressError, parse_forward_path, parse_mailbox, parse_reverse_path

LONG = "x" * 200


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("a@example.com", "a", "example.com"),
        ("a.b+c@example.com", "a.b+c", "example.com"),
        ("!#$%&'*+/=?^_`{|}~-@example.com", "!#$%&'*+/=?^_`{|}~-", "example.com"),
        ('"a b"@example.com', '"a b"', "example.com"),
        ('"a@b"@example.com', '"a@b"', "example.com"),
        (r'"a\"b\\c"@example.com', r'"a\"b\\c"', "example.com"),
        ('""@example.com', '""', "example.com"),
        ('"<>"@example.com', '"<>"', "example.com"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@[ipv6:::1]", "a", "[ipv6:::1]"),
        ("a@[x-net:some.where]", "a", "[x-net:some.where]"),
        ("a@localhost", "a", "localhost"),
        ("a@my_host.example.com", "a", "my_host.example.com"),
        ("a@1and1.example", "a", "1and1.example"),
        ("a@example.com.", "a", "example.com."),
        (f"{LONG}@example.com", LONG, "example.com"),
        ("ü@example.com", "ü", "example.com"),
        ("a@bücher.example", "a", "bücher.example"),
        ('"ü ü"@example.com', '"ü ü"', "example.com"),
        ("A@EXAMPLE.com", "A", "EXAMPLE.com"),
    ],
)
def test_mailboxes(text: str, local: str, domain: str) -> None:
    address = parse_mailbox(text)
    assert (address.local, address.domain) == (local, domain)
    assert str(address) == text
    assert address.is_ascii == text.isascii()
    for path in (parse_reverse_path, parse_forward_path):
        assert path(f"<{text}>") == address


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "@", "a@", "@example.com", "a@b@c", "a b@example.com", ".a@example.com", "a.@example.com",
        "a..b@example.com", "a@.example.com", "a@example..com", "a@-example.com", "a@example-.com", "a@example.com..",
        "a@exam ple.com", 'a"b"@example.com', '"a"b@example.com', '"a@example.com', 'a"@example.com', '"a"', '"a\\"@b',
        "a@[", "a@[]", "a@[192.0.2]", "a@[192.0.2.256]", "a@[192.0.2.1", "a@[IPv6:]", "a@[IPv6:::1%eth0]",
        "a@[IPv6:1::2::3]", "a@[192.0.2.1]x", "a@[2001:db8::1", "a@[x:]", "a@[x:>]", "a@[x:<]", 'a@[x:"]', "a@[x:]]",
        "a@[x:\\]", "a@[١٢.0.2.1]", "a\r@example.com", "a\n@example.com", "a\0@example.com", '"a\r\nb"@example.com',
        '"a\tb"@example.com', "a@example.com\r\n", "a@example.com\n", "a@b\x85c", "a\u2028@example.com", "a@b\u2029",
        "\x9f@example.com", "a@example.com>", "<a@example.com>", "a,b@example.com", "a;b@c", "a:b@c",
        "a(b)@example.com",
    ],
)  # fmt: skip
def test_what_is_no_mailbox(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "mailbox"),
    [
        ("<@relay.example:a@example.com>", "a@example.com"),
        ("<@one.example,@two.example:a@example.com>", "a@example.com"),
        ('<@relay.example:"a:b"@example.com>', '"a:b"@example.com'),
    ],
)
def test_source_routes_are_dropped(path: str, mailbox: str) -> None:
    assert str(parse_forward_path(path)) == str(parse_reverse_path(path)) == mailbox


@pytest.mark.parametrize("path", ["<@relay.example>", "<@:a@b>", "<@a,b:c@d>", "<@a,@b;c@d>", "<@a:>", "<@a:@b:c@d>"])
def test_broken_source_routes(path: str) -> None:
    with pytest.raises(AddressError):
        parse_forward_path(path)


def test_the_null_reverse_path() -> None:
    assert parse_reverse_path("<>") is NULL
    assert NULL.is_null
    assert str(NULL) == ""
    with pytest.raises(AddressError):
        parse_forward_path("<>")


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_needs_no_domain_as_a_recipient(name: str) -> None:
    assert parse_forward_path(f"<{name}>") == Address(name, "")
    with pytest.raises(AddressError):
        parse_reverse_path(f"<{name}>")


@pytest.mark.parametrize("text", ["a@example.com", "<a@example.com", "a@example.com>", "", ">", "<", "> <"])
def test_a_path_has_brackets(text: str) -> None:
    for path in (parse_reverse_path, parse_forward_path):
        with pytest.raises(AddressError):
            path(text)


def test_the_case_of_the_domain_does_not_matter_and_that_of_the_local_part_does() -> None:
    assert parse_mailbox("a@EXAMPLE.com").key == parse_mailbox("a@example.COM").key
    assert parse_mailbox("A@example.com").key != parse_mailbox("a@example.com").key


_characters = st.text(st.sampled_from('ab.@"\\[]<>:, \tü1-_\r\n\0\x85\u2028') | st.characters(), max_size=20)


@examples(500)
@given(_characters)
def test_what_is_parsed_is_written_as_it_was_and_parsed_again(text: str) -> None:
    try:
        address = parse_mailbox(text)
    except AddressError:
        return
    assert str(address) == text
    assert parse_mailbox(str(address)) == address
    assert not set("\r\n\0\x85\u2028\u2029") & set(text)


@examples(300)
@given(_characters)
def test_any_path_is_an_address_or_an_error(text: str) -> None:
    for path in (parse_reverse_path, parse_forward_path):
        try:
            address = path(f"<{text}>")
        except AddressError:
            continue
        assert path(f"<{address}>") == address
