"""Words with which servers take a message, and the id in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.mail.queue_id import queue_id


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("Ok: queued as 4XyzAB12cdz9", "4XyzAB12cdz9"),
        ("Ok: queued as A1B2C3D4E5", "A1B2C3D4E5"),
        ("from MTA(smtp:[192.0.2.1]:10025): 250 2.0.0 Ok: queued as A1B2C3D4E5", "A1B2C3D4E5"),
        ("Ok: queued as wLcxn_b9QyS-Dv3m1XyZ_g", "wLcxn_b9QyS-Dv3m1XyZ_g"),
        ("OK queued as 17F.3, thanks", "17F.3"),
        ("Queued as <abc.123@mx.example.com>.", "abc.123@mx.example.com"),
        ("OK id=1tABcd-00000001aBc-2dEf", "1tABcd-00000001aBc-2dEf"),
        ("OK id=1abcDE-0001Ab-2C", "1abcDE-0001Ab-2C"),
        (
            "<1@example.com> [InternalId=93458239456, Hostname=AM0PR01.prod.example.com] 9216 bytes in 0.1, 90 KB/sec"
            " Queued mail for delivery",
            "93458239456",
        ),
        ("OK  1763788800 5b1f17b1804b1-4778a9e1d2esor.12 - gsmtp", "5b1f17b1804b1-4778a9e1d2esor.12"),
        ("OK 1763788800 a17.4-20020a05.12 - gsmtp", "a17.4-20020a05.12"),
        ("5AM566hK012345 Message accepted for delivery", "5AM566hK012345"),
        ("1f2e3d4c Message accepted for delivery", "1f2e3d4c"),
        ("Ok 0100019a1b2c3d4e-5f60-4a7b-8c9d-000000", "0100019a1b2c3d4e-5f60-4a7b-8c9d-000000"),
        ("ok 1763788800 qp 4711", "4711"),
        ("Message Queued (5E6F7A8B-1C2D.1)", "5E6F7A8B-1C2D.1"),
        ("Message queued with id 1a2b3c4d5e.", "1a2b3c4d5e"),
        ("OK ids=d7ef132b5d7711eea8c8000c29c33806", "d7ef132b5d7711eea8c8000c29c33806"),
        ("Queued (id 06F2K8QW3M0A7XZB)", "06F2K8QW3M0A7XZB"),
        # A Waypost behind ours: its own id, not that of the server behind it.
        ("Ok: queued as 4XyzAB12cdz9 (id 06F2K8QW3M0A7XZB)", "06F2K8QW3M0A7XZB"),
    ],
)
def test_the_id_is_found(text: str, id_: str | None) -> None:
    assert queue_id(text) == id_


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK",
        "Ok",
        "Queued (0.012 seconds)",
        "Great success",
        "Requested mail action okay, completed",
        "Message accepted for delivery",
        "Ok dirdel",
        "Thank you, your mail is queued as requested",
        "Ok: queued as \u0661\u0662\u0663\u0664",
        "id= queued as ",
    ],
)
def test_words_without_an_id_name_none(text: str) -> None:
    assert queue_id(text) is None


@given(st.sampled_from(["queued as ", "id=", "[InternalId=", "(id ", "Ok "]), st.text(max_size=200))
def test_whatever_is_found_is_one_short_printable_word_of_the_text(sign: str, rest: str) -> None:
    found = queue_id(sign + rest)

    assert found is None or (found in rest and len(found) <= 128 and found.isascii() and found.isprintable())
