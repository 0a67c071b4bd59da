"""Durations, sizes, shares, addresses: read, and written back. Defects G17 and S21, by numbers in the names."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config import endpoints, values
from waypost.config.errors import WrongValueError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("500ms", 0.5), ("5m", 300), ("1h", 3600), ("5d", 432000), ("1.5h", 5400), ("2 m", 120)],
)
def test_durations(text, seconds):
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "5x", "٣", "1_0", "1e3", "inf", "nan", "0", "5 weeks", "1h30m", "9" * 400])
def test_no_durations(text):
    with pytest.raises(WrongValueError):
        values.duration(text)


@given(st.integers(1, 10**8))
def test_durations_are_read_as_they_are_written(seconds):
    assert values.duration(values.duration_text(seconds)) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize("text", ["off", "Off", "no", "false", "0"])
def test_no_duration_at_all(text):
    assert values.duration_or_off(text) == 0
    assert values.duration_or_off(values.duration_or_off_text(0)) == 0


@pytest.mark.parametrize(
    ("text", "per_second", "written"),
    [
        ("10/second", 10, "10/second"),
        ("300/minute", 5, "5/second"),
        ("0.5 / Second", 0.5, "30/minute"),
        ("1000/hour", 1000 / 3600, "1000/hour"),
        ("1.5/hour", 1.5 / 3600, "1.5/hour"),
    ],
)
def test_rates(text, per_second, written):
    assert values.rate(text) == per_second
    assert values.rate_text(per_second) == written


@given(st.integers(1, 10**6), st.sampled_from(["second", "minute", "hour"]))
def test_rates_are_read_as_they_are_written(number, period):
    rate = values.rate(f"{number}/{period}")
    assert values.rate(values.rate_text(rate)) == pytest.approx(rate, rel=1e-8)


@pytest.mark.parametrize(
    "text", ["", "10", "/second", "10/day", "10/fortnight", "-1/hour", "٣/hour", "0/hour", "1e3/hour"]
)
def test_no_rates(text):
    with pytest.raises(WrongValueError):
        values.rate(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("1", 1), ("1024", 1024), ("1KiB", 1024), ("50MB", 50_000_000), ("50 MiB", 52428800), ("1.5kib", 1536), ("9B", 9)],
)
def test_sizes(text, octets):
    assert values.size(text) == octets


@pytest.mark.parametrize("text", ["", "0", "-1", "1M", "1TB", "1_0", "٣", "MB", "9" * 400])
def test_no_sizes(text):
    with pytest.raises(WrongValueError):
        values.size(text)


@given(st.integers(1, 10**14))
def test_sizes_are_read_as_they_are_written(octets):
    assert values.size(values.size_text(octets)) == octets


@pytest.mark.parametrize(("text", "part"), [("10%", 0.1), ("0.1", 0.1), ("1", 1), ("100%", 1), ("0.5 %", 0.005)])
def test_shares(text, part):
    assert values.share(text) == part
    assert values.share(values.share_text(part)) == part


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.1", "-1%", "", "%", "x"])
def test_no_shares(text):
    with pytest.raises(WrongValueError):
        values.share(text)


hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]"),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9](\.[a-z]{2,8}){0,3}", fullmatch=True),
)


@given(hosts, st.integers(1, 65535))
def test_g17_s21_every_address_is_taken_apart(host, port):
    endpoint = endpoints.upstream_address(f"{host}:{port}")
    assert (endpoint.port, endpoint.text) == (port, f"{host}:{port}")
    assert endpoint.host == host.strip("[]")
    if host.startswith("["):
        assert ipaddress.ip_address(endpoint.host).version == 6


def test_g17_s21_the_address_that_broke_both():
    assert endpoints.bound_address("[::1]:25") == endpoints.Endpoint("[::1]:25", "::1", 25)


@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_g17_s21_an_address_without_brackets_is_refused_with_the_right_one(address, port):
    with pytest.raises(WrongValueError) as caught:
        endpoints.upstream_address(f"{address}:{port}")
    assert caught.value.suggestion


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(text):
    for parse in (endpoints.upstream_address, endpoints.bound_address):
        try:
            endpoint = parse(text)
        except WrongValueError:
            continue
        assert 0 <= endpoint.port <= 65535


@pytest.mark.parametrize(("text", "host"), [(":1020", ""), ("*:25", ""), ("0.0.0.0:0", "0.0.0.0"), ("[::]:25", "::")])
def test_addresses_to_listen_on(text, host):
    assert endpoints.bound_address(text).host == host


@pytest.mark.parametrize(
    "text", ["*", "*@example.com", "example.com", "*.example.com", "<>", "bob@*", "postmaster", '"a b"@example.com']
)
def test_address_patterns(text):
    assert values.address_glob(text) == text


@pytest.mark.parametrize("text", ["", " ", "<a@b>", "a@b c", "a@", "a\n@b", " a@b", "Bob <a@b>"])
def test_no_address_patterns(text):
    with pytest.raises(WrongValueError):
        values.address_glob(text)


def test_a_fingerprint_loses_its_colons():
    assert values.fingerprint("AB:" * 31 + "CD") == "ab" * 31 + "cd"
