"""The address of a database: what is one, what is none, and that a password in it is never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.database import database_url, masked
from waypost.config.errors import WrongValueError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u@host/db", "postgresql://u@host/db"),
        ("postgres://u:hunter2@host/db", "postgres://u:***@host/db"),
        ("postgresql://u:hunt%40er2@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
        ("postgresql://u:hunt:er2@a:1,b:2/db", "postgresql://u:***@a:1,b:2/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("postgresql://host?dbname=db&password=hunter2&user=u", "postgresql://host?dbname=db&password=***&user=u"),
        ("postgresql://host/db?sslmode=verify-full&sslpassword=hunter2", None),
    ],
)
def test_addresses(text, shown):
    assert database_url(text).reveal() == text
    assert "hunt" not in masked(text, "***")
    assert shown is None or masked(text, "***") == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@host",
        "postgresql://u:hunter2@host/",
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:hunter2@host:65536/db",
        "postgresql://u:hunter2@one:5432,[::1]:70000/db",
        "postgresql://u:hunter2/@host/db",
        "postgresql://u:12/hunter2@host/db",
        "postgresql://u:0/hunter?2@host/db?hunter2",
        "postgresql://u:hunter2#@host/db",
        "postgresql://u:hunter2?@host/db",
        "postgresql://u:hunter2@@host/db",
        "postgresql://u:hunter2%@host/db",
        "postgresql://u:hunter2 @host/db",
        "postgresql:u:hunter2@host/db",
        "mysql://u:hunter2@host/db",
        "hunter2",
    ],
)
def test_no_addresses(text):
    with pytest.raises(WrongValueError) as caught:
        database_url(text)
    assert caught.value.suggestion
    assert "hunter2" not in caught.value.text + caught.value.suggestion


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=12))
def test_a_password_is_refused_or_masked(password):
    text = f"postgresql://u:0{password}1@host/db"
    try:
        database_url(text)
    except WrongValueError:
        return
    assert masked(text, "***") == "postgresql://u:***@host/db"
