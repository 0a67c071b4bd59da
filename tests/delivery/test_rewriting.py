"""Rewriting and signing over real sockets: what primary and copies get, and of what somebody is told."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rig.client import RawClient
from rig.faults import say
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, several_routes, single, upstream
from rig.sink import StoringSink
from waypost.config.settings import DkimSettings, SpoolSettings
from waypost.mail.address_map import AddressMap
from waypost.mail.dkim import record
from waypost.mail.dkim_key import read_key
from waypost.mail.header import Header
from waypost.mail.rewrite import Rewrite
from waypost.routing.route import Account, Copy, Member, Pool, Route, Routes, Rule
from waypost.smtp.address import Address
from waypost.smtp.sasl import Secret

ME = Address("me", "provider.example")
HEADER = b"Date: x\r\nMessage-ID: <1@a.example>\r\nFrom: Ann <ann@a.example>\r\nSubject: hello\r\n"
CONTENT = HEADER + b"\r\nFrom: the body\r\n..\r\n"
FOREIGN = b"DKIM-Signature: v=1; c=relaxed/relaxed; d=a.example; s=x; h=from; bh=x; b=x\r\n"

PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
KEY = read_key(PEM)


def everybody(address: Address, **more: Any) -> Rewrite:
    addresses = AddressMap((("*", address),))
    return Rewrite(addresses, addresses, **more)


def moved(old: str, new: str) -> Rewrite:
    addresses = AddressMap(((f"*@{old}", Address("*", new)),))
    return Rewrite(addresses, addresses)


def signing(domain: str, **more: Any) -> DkimSettings:
    return DkimSettings(domain, "s1", Secret(PEM.decode()), **more)


def verifies(content: bytes, domain: str) -> bool:
    text = record(KEY.algorithm, KEY.public).encode()
    name = f"s1._domainkey.{domain}.".encode()
    found: bool = dkim.verify(content, dnsfunc=lambda asked, timeout=5: text if asked == name else None)
    return found


class Scene:
    """A submission and a relay listener; the route `all` to a and b, with a copy; `*@other` has another route."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, **more: Any) -> None:
        self.a, self.b, self.archive = (stack.enter_context(StoringSink(name=name)) for name in ("a", "b", "archive"))
        self.port, self.relay = free_port(), free_port()
        wants = more.pop("upstream", {})
        senders = more.pop("senders", {})
        keys = more.pop("dkim", ())
        accounts = more.pop("accounts", {})
        other = more.pop("other", {})
        pool = Pool(
            "pool",
            tuple(
                Member(upstream(s.name, s.port, rewrite=wants.get(s.name), senders=senders.get(s.name, ())))
                for s in (self.a, self.b)
            ),
        )
        copy = Copy(single(upstream("archive", self.archive.port, rewrite=wants.get("archive"))))
        mode = more.pop("acceptance", "pass")
        routes = {
            "all": Route("all", pool, (copy,), mode, **more),
            "other": Route("other", pool, (), mode, **other),
        }
        rules = (Rule("other", recipients=("*@other",)), Rule("all"))
        listeners = (
            relay_listener(self.port, mode="submission", allow_plaintext_auth=True),
            relay_listener(self.relay, name="relay"),
        )
        made = several_routes(routes, Routes(rules, routes, accounts), *listeners)
        made = replace(made, spool=SpoolSettings(str(folder), allow_temporary=True), dkim=keys)
        self.server = stack.enter_context(RunningServer(made))

    def send(
        self, content: bytes = CONTENT, path: str = "ann@a.example", *recipients: str, port: int | None = None
    ) -> str:
        """A message, and what its client is told at the end."""
        with RawClient(port or self.port) as client:
            client.hello()
            client.mail(path, *(recipients or ("bob@x",)))
            client.send(content + b".\r\n")
            answer = client.answer()
            return f"{answer.code} {answer.text}"

    def arrived(self, *sinks: StoringSink) -> list[tuple[str, bytes]]:
        """Reverse-path and content, without our trace, of the first message at each."""
        return [(m.reverse_path, m.untraced) for sink in sinks for m in sink.wait_for(1)]


MakeScene = Callable[..., Scene]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[MakeScene]:
    with contextlib.ExitStack() as stack:
        yield lambda **more: Scene(stack, tmp_path, **more)


@pytest.mark.parametrize("mode", ["pass", "hybrid", "spool"])
def test_a_route_rewrites_once_and_primary_and_copies_get_the_same(scene: MakeScene, mode: str) -> None:
    here = scene(acceptance=mode, rewrite=everybody(ME, add=(b"X-App: shop\r\n",), remove=("subject",)))
    assert here.send().startswith("250")
    here.a.wait_for(1)
    primary, copy = here.arrived(here.a, here.archive)
    assert (
        primary
        == copy
        == (
            "me@provider.example",
            b"X-App: shop\r\nDate: x\r\nMessage-ID: <1@a.example>\r\nFrom: Ann <me@provider.example>\r\n"
            b"Reply-To: Ann <ann@a.example>\r\n\r\nFrom: the body\r\n.\r\n",
        )
    )
    (told,) = here.server.wait_for("rewritten")
    assert (told["route"], told["reverse_path"], told["original_reverse_path"], told["aligned"]) == (
        *("all", "me@provider.example", "ann@a.example"),
        True,
    )
    assert here.server.wait_for("received")[0]["reverse_path"] == "me@provider.example"
    assert 'waypost_messages_rewritten_total{alignment="aligned",name="all",place="route"} 1.0' in here.server.metrics()


def test_an_upstream_rewrites_for_itself_only(scene: MakeScene) -> None:
    here = scene(upstream={"b": everybody(ME)})
    here.a.on("dot", say("451 4.3.0 later"))
    assert here.send().startswith("250")
    ((path, content), copy) = here.arrived(here.b, here.archive)
    assert (path, copy) == ("me@provider.example", ("ann@a.example", CONTENT.replace(b"\r\n..", b"\r\n.")))
    assert b"From: Ann <me@provider.example>\r\nReply-To: Ann <ann@a.example>\r\n" in content
    (told,) = here.server.told("rewritten")
    assert (told["upstream"], told["original_reverse_path"]) == ("b", "ann@a.example")


def test_a_copy_is_rewritten_for_its_upstream(scene: MakeScene) -> None:
    here = scene(upstream={"archive": everybody(ME)})
    here.send()
    ((path, _), (copied, content)) = here.arrived(here.a, here.archive)
    assert (path, copied) == ("ann@a.example", "me@provider.example")
    assert b"From: Ann <me@provider.example>" in content


def test_what_is_rewritten_for_an_upstream_is_told_of_once(scene: MakeScene) -> None:
    here = scene(upstream={"archive": everybody(ME)})
    here.archive.extensions = ("PIPELINING",)  # without CHUNKING the content does not go along with the envelope
    here.send()
    here.server.wait_for("copied")
    assert len(here.server.told("rewritten")) == 1


def test_what_does_not_get_there_is_not_told_of(scene: MakeScene) -> None:
    here = scene(upstream={"archive": everybody(ME)})
    here.archive.on("connect", say("421 4.3.2 not now"))
    here.send()
    here.server.wait_for("deferred")
    assert here.server.told("rewritten") == []


def test_the_null_path_stays_though_from_is_rewritten(scene: MakeScene) -> None:
    here = scene(rewrite=everybody(ME), upstream={"a": everybody(Address("you", "provider.example"))})
    here.send(path="")
    ((path, content),) = here.arrived(here.a)
    assert path == ""
    assert b"From: Ann <you@provider.example>\r\nReply-To: Ann <ann@a.example>" in content


def test_mail_from_relay_listeners_is_not_ours_to_change(scene: MakeScene) -> None:
    here = scene(rewrite=everybody(ME), upstream={"a": everybody(ME)}, dkim=(signing("a.example"),))
    here.send(port=here.relay)
    assert here.arrived(here.a) == [("ann@a.example", CONTENT.replace(b"\r\n..", b"\r\n."))]
    assert here.server.told("rewritten") == []


def test_recipients_on_routes_that_rewrite_in_other_ways_need_another_message(scene: MakeScene) -> None:
    here = scene(acceptance="spool", rewrite=everybody(ME), other={"rewrite": moved("a.example", "b.example")})
    for port, code in ((here.port, 452), (here.relay, 250)):
        with RawClient(port) as client:
            client.hello()
            client.command("MAIL FROM:<ann@a.example>", 250)
            client.command("RCPT TO:<bob@x>", 250)
            client.command("RCPT TO:<bob@other>", code)


def test_routes_that_rewrite_alike_share_a_message(scene: MakeScene) -> None:
    here = scene(acceptance="spool", rewrite=everybody(ME), other={"rewrite": everybody(ME)})
    assert here.send(CONTENT, "ann@a.example", "bob@x", "bob@other").startswith("250")


def test_of_a_broken_signature_somebody_is_told_once(scene: MakeScene) -> None:
    again = everybody(Address("x", "provider.example"))
    here = scene(rewrite=everybody(ME), upstream={"archive": again})
    here.send(FOREIGN + CONTENT)
    here.archive.wait_for(1)
    (told,) = here.server.told("signature_broken")
    assert (told["route"], told["domains"], told["level"]) == ("all", ["a.example"], "warning")
    assert 'waypost_signatures_broken_total{name="all",place="route"} 1.0' in here.server.metrics()


def test_a_signature_that_does_not_cover_what_changes_stays_whole(scene: MakeScene) -> None:
    here = scene(rewrite=Rewrite(remove=("subject",)))
    here.send(FOREIGN + CONTENT)
    here.a.wait_for(1)
    assert here.server.told("signature_broken") == []


# -- signing


@pytest.mark.parametrize("size", [0, 2_000_000])
def test_what_is_submitted_is_signed_and_verifies_everywhere(scene: MakeScene, size: int) -> None:
    here = scene(dkim=(signing("a.example"),))
    body = b"..dots\r\n" + (b"x" * 76 + b"\r\n") * (size // 78)
    here.send(b"From: ann@a.example\r\n\r\n" + body)
    here.a.wait_for(1)
    for sink in (here.a, here.archive):
        (message,) = sink.wait_for(1)
        assert verifies(message.content, "a.example")
        assert [f.name for f in Header(message.content).fields()][:3] == [b"Received", b"DKIM-Signature", b"Date"]
    assert here.server.told("received")[0]["signed"] == ["a.example/s1"]


def test_the_author_after_rewriting_is_signed_for(scene: MakeScene) -> None:
    here = scene(rewrite=moved("a.example", "b.example"), dkim=(signing("b.example"),))
    here.send()
    (message,) = here.a.wait_for(1)
    assert b"From: Ann <ann@b.example>" in message.content
    assert verifies(message.content, "b.example")


def test_what_an_upstream_breaks_of_ours_is_signed_anew(scene: MakeScene) -> None:
    here = scene(dkim=(signing("a.example"), signing("provider.example")), upstream={"archive": everybody(ME)})
    here.send()
    (message,) = here.a.wait_for(1)
    assert verifies(message.content, "a.example")
    (message,) = here.archive.wait_for(1)
    assert message.content.count(b"DKIM-Signature") == 1
    assert verifies(message.content, "provider.example")
    assert here.server.told("signature_broken") == []
    assert here.server.wait_for("rewritten")[0]["signed"] == ["provider.example/s1"]


def test_what_an_upstream_breaks_is_left_out_where_there_is_no_key(scene: MakeScene) -> None:
    here = scene(dkim=(signing("a.example"),), upstream={"archive": everybody(ME)})
    here.send()
    (message,) = here.archive.wait_for(1)
    assert b"DKIM-Signature" not in message.content


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (b"From: ann@sub.a.example\r\n\r\nx\r\n", "signed"),
        (b"From: ann@A.example., eve@a.example\r\n\r\nx\r\n", "signed"),
        (b"From: ann@a.example\r\nFrom: eve@x.example\r\n\r\nx\r\n", "ambiguous"),
        (b"From: ann@a.example\r\nno field\r\n\r\nx\r\n", "malformed"),
        (b"From: ann@x.example\r\n\r\nx\r\n", None),
        (b"From: nobody\r\n\r\nx\r\n", None),
        (b"Subject: x\r\n\r\nx\r\n", None),
        (b"x\r\n", None),
    ],
)
def test_for_whom_is_signed(scene: MakeScene, content: bytes, outcome: str | None) -> None:
    here = scene(dkim=(signing("a.example", subdomains=True),))
    here.send(content)
    (message,) = here.a.wait_for(1)
    assert (b"DKIM-Signature: " in message.content) == (outcome == "signed")
    counted = [line for line in here.server.metrics().splitlines() if line.startswith("waypost_signatures_total{")]
    wanted = f'waypost_signatures_total{{domain="a.example",outcome="{outcome}"}} 1.0'
    assert counted == ([] if outcome is None else [wanted])


def test_an_account_gets_no_signature_for_an_author_that_it_may_not_be(scene: MakeScene) -> None:
    account = Account("app", "secret", may_send_as=("*@b.example",))
    here = scene(
        accounts={"app": account},
        dkim=(signing("a.example"), signing("b.example"), signing("c.example")),
        rewrite=moved("a.example", "c.example"),
    )
    for sender, signed in (("b.example", True), ("a.example", False)):
        before = len(here.a.messages)
        with RawClient(here.port) as client:
            client.hello()
            client.command("AUTH PLAIN AGFwcABzZWNyZXQ=", 235)
            client.mail("x@b.example", "bob@x")
            client.send(b"From: x@" + sender.encode() + b"\r\n\r\nx\r\n.\r\n")
            assert client.answer().code == 250
        message = here.a.wait_for(before + 1)[-1]
        assert (b"DKIM-Signature: " in message.content) == signed, sender
    assert 'outcome="not_allowed"' in here.server.metrics()


def test_our_own_notifications_are_signed_and_fit_their_upstream(scene: MakeScene) -> None:
    keys = (signing("waypost.example"), signing("provider.example"))
    here = scene(acceptance="spool", dkim=keys, upstream={"a": everybody(ME)})
    here.a.on("dot", say("550 5.1.1 nobody"))
    here.send()
    (notice,) = here.a.wait_for(1)
    assert notice.reverse_path == ""
    assert b"MAILER-DAEMON@waypost.example" in notice.content  # in Reply-To now
    assert verifies(notice.content, "provider.example")


def test_who_is_notified_is_the_sender_that_a_route_made(scene: MakeScene) -> None:
    here = scene(acceptance="spool", rewrite=everybody(ME), upstream={"a": everybody(Address("x", "other.example"))})
    here.a.on("dot", say("550 5.1.1 nobody"))
    here.send()
    (notice,) = here.a.wait_for(1)
    assert (notice.reverse_path, notice.recipients) == ("", ("me@provider.example",))


@pytest.mark.parametrize("mode", ["pass", "spool"])
def test_an_upstream_sends_for_those_that_it_will_be_told(scene: MakeScene, mode: str) -> None:
    moves = {"a": moved("a.example", "b.example")}
    here = scene(acceptance=mode, upstream=moves, senders={"a": ("*@b.example",), "b": ("*@c.example",)})
    here.send()
    ((path, content),) = here.arrived(here.a)
    assert path == "ann@b.example"
    assert b"From: Ann <ann@b.example>" in content


@pytest.mark.parametrize(("may_send_as", "signed"), [(("*@a.example",), False), (("*@a.example", "*@b.example"), True)])
def test_an_upstream_s_signature_is_for_whom_the_account_may_be_after_the_route(
    scene: MakeScene, may_send_as: tuple[str, ...], signed: bool
) -> None:
    here = scene(
        accounts={"app": Account("app", "secret", may_send_as=may_send_as)},
        dkim=(signing("b.example"),),
        rewrite=moved("a.example", "b.example"),
        upstream={"archive": Rewrite(remove=("subject",))},
    )
    with RawClient(here.port) as client:
        client.hello()
        client.command("AUTH PLAIN AGFwcABzZWNyZXQ=", 235)
        client.mail("ann@a.example", "bob@x")
        client.send(CONTENT + b".\r\n")
        assert client.answer().code == 250
    (message,) = here.a.wait_for(1)
    assert verifies(message.content, "b.example")
    (message,) = here.archive.wait_for(1)
    assert (b"DKIM-Signature: " in message.content) == signed
