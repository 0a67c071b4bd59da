import re
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.header import Header
from waypost.mail.message import Client
from waypost.mail.trace import date_time, loops, missing_fields, received_field
from waypost.smtp.address import Address

ID = "06F2K8QW3M0A7XZB"
BOB = Address("bob", "example.com")


def client(name="mail.example.org", address="192.0.2.1", protocol="ESMTP", tls=None):
    return Client("127.0.0.1:25", address, 4711, name, protocol, None, tls)


def field(*, recipient=None, instance="3f9a12cd", **facts):
    return received_field(ID, client(**facts), "mx.example.com", 1700000000.9, recipient, instance)


def test_a_received_field_says_who_what_when():
    assert field(recipient=BOB, protocol="ESMTPS", tls="TLSv1.3 TLS_AES_256_GCM_SHA384") == (
        b"Received: from mail.example.org ([192.0.2.1])\r\n"
        b" by mx.example.com (Waypost 3f9a12cd) with ESMTPS id 06F2K8QW3M0A7XZB\r\n"
        b" (using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b" for <bob@example.com>;\r\n"
        b" Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_several_recipients_are_not_named():
    assert field() == (
        b"Received: from mail.example.org ([192.0.2.1])\r\n"
        b" by mx.example.com (Waypost 3f9a12cd) with ESMTP id 06F2K8QW3M0A7XZB;\r\n"
        b" Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("name", "address", "clause"),
    [
        ("my_host", "2001:db8::1", b"my_host ([IPv6:2001:db8::1])"),
        ("[192.0.2.7]", "192.0.2.1", b"[192.0.2.7] ([192.0.2.1])"),
        ("[IPv6:2001:db8::1]", "::ffff:192.0.2.1", b"[IPv6:2001:db8::1] ([192.0.2.1])"),
        ("host", "fe80::1%eth0", b"host ([IPv6:fe80::1])"),
        ("host", "", b"host"),
        ("", "192.0.2.1", b"[192.0.2.1]"),
        ("", "", b"unknown"),
        ("a) by me (b", "192.0.2.1", b"[192.0.2.1] (called itself a?by?me?b)"),
        ("a\r\nBcc: all", "192.0.2.1", b"[192.0.2.1] (called itself a?Bcc:?all)"),
        ("büro", "192.0.2.1", b"[192.0.2.1] (called itself b?ro)"),
        ("x" * 5000, "192.0.2.1", b"[192.0.2.1] (called itself " + b"x" * 64 + b")"),
    ],
)
def test_what_the_client_called_itself(name, address, clause):
    assert field(name=name, address=address).split(b"\r\n")[0] == b"Received: from " + clause


def test_other_scripts_are_for_smtputf8_only():
    büro = Address("büro", "example.com")
    assert b" for " not in field(recipient=büro)
    assert field(recipient=büro, name="bücher.example", protocol="UTF8SMTPS").startswith(
        "Received: from bücher.example ([192.0.2.1])\r\n".encode()
    )
    assert "\r\n for <büro@example.com>;".encode() in field(recipient=büro, protocol="UTF8SMTPS")


@given(
    st.text(max_size=1200),
    st.one_of(st.text(max_size=50), st.ip_addresses().map(str)),
    st.one_of(st.none(), st.builds(Address, st.text(max_size=1200), st.text(max_size=300))),
    st.sampled_from(["SMTP", "ESMTPSA", "UTF8SMTP"]),
)
def test_no_client_can_break_the_field(name, address, recipient, protocol):
    written = received_field(ID, client(name, address, protocol), "mx.example.com", 0, recipient, "i")
    assert written.endswith(b"\r\n")
    lines = written[:-2].split(b"\r\n")
    assert lines[0].startswith(b"Received: ")
    assert all(line.startswith(b" ") for line in lines[1:])
    assert all(len(line) <= 998 and not re.search(rb"[\x00-\x1f\x7f]", line) for line in lines)
    assert written.isascii() or protocol == "UTF8SMTP"
    assert [f.end for f in Header(written).fields()] == [len(written)]


@given(st.datetimes(timezones=st.just(None)).filter(lambda d: d.year >= 1970))
def test_dates_are_what_the_standard_library_reads(naive):
    at = naive.replace(tzinfo=UTC, microsecond=0)
    assert date_time(int(at.timestamp())) == format_datetime(at)
    assert parsedate_to_datetime(date_time(int(at.timestamp()))) == at


def test_missing_fields_are_added_and_others_are_not():
    date, message_id = (
        b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
        b"Message-ID: <" + ID.encode() + b"@mx.example.com>\r\n",
    )

    def added(head):
        return missing_fields(Header(head), "mx.example.com", ID, 0.0)

    assert added(b"From: a@b\r\n\r\nDate: in the body\r\n") == date + message_id
    assert added(b"DATE: x\r\n\r\n") == message_id
    assert added(b"A: b\r\nmessage-id: x\r\n\r\n") == date
    assert added(b"Message-Id : x\r\nDate: y\r\n\r\n") == b""
    assert added(b"\r\nno header\r\n") == date + message_id


def test_a_hundred_hops_are_a_long_way_and_one_more_is_a_loop():
    def after(hops):
        return loops(b"Received: x\r\n" * hops + b"\r\nReceived: body\r\n", "3f9a12cd", 100)

    assert after(100) is None
    assert str(after(101)) == "554 5.4.6 Routing loop: 101 Received fields, at most 100 are allowed"


def test_the_second_visit_to_this_instance_is_a_way_and_the_third_a_loop():
    ours, others = field(), field(instance="ffffffff")
    rest = b"Subject: x\r\n\r\n"
    assert loops(ours + others + others + rest, "3f9a12cd", 100) is None
    assert str(loops(ours + others + ours + rest, "3f9a12cd", 100)).startswith("554 5.4.6 Routing loop")


def test_our_words_elsewhere_are_no_loop():
    words = b"(Waypost 3f9a12cd)"
    assert loops(b"X-Old: %b\r\nX-Older: %b\r\n" % (words, words) + field() + b"\r\n", "3f9a12cd", 100) is None
    assert loops(field() + b"\r\n" + words * 5, "3f9a12cd", 100) is None
