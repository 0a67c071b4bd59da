"""AUTH= of MAIL: whom we believe about who submitted a message first."""

import pytest

from waypost.delivery.vouching import vouched
from waypost.routing.route import Account, Routes
from waypost.routing.rules import Router
from waypost.smtp.commands import Mail
from waypost.smtp.wire import parse

ROUTER = Router(Routes((), {}, {"ann": Account("ann", "", None, ("*@example.com",)), "any": Account("any")}))


@pytest.mark.parametrize(
    ("account", "said", "carried"),
    [
        ("ann", "ann@example.com", "ann@example.com"),
        ("ann", "a+2Bb@example.com", "a+2Bb@example.com"),
        ("ann", "eve@example.net", "<>"),
        ("ann", "e+3Dve@example.net", "<>"),
        ("ann", "nonsense", "<>"),
        ("ann", "<>", "<>"),
        ("any", "eve@example.net", "eve@example.net"),
        (None, "eve@example.net", "eve@example.net"),  # a server of a trusted network
    ],
)
def test_an_account_is_believed_about_its_own_addresses(account: str | None, said: str, carried: str) -> None:
    mail = parse(f"MAIL FROM:<ann@example.com> AUTH={said}".encode())
    assert isinstance(mail, Mail)
    assert vouched(mail, account, ROUTER).parameters.auth == carried


def test_without_auth_nothing_changes() -> None:
    mail = parse(b"MAIL FROM:<ann@example.com>")
    assert isinstance(mail, Mail)
    assert vouched(mail, "ann", ROUTER) is mail
