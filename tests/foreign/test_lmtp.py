"""LMTP with others: Dovecot as the upstream, Postfix's lmtp(8) and swaks as clients, Exim for PRDR both ways."""

import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.client import RawClient
from rig.dovecot import dovecot_lmtp
from rig.exim import exim
from rig.lmtp import EachSink
from rig.postfix import PostfixInstance
from rig.programs import run, transcript
from rig.settings import relaying
from rig.waiting import wait_until
from rig.waypost import WaypostProcess

Start = Callable[[dict[str, Any]], WaypostProcess]
BIG = b"Subject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 30
USERS = {"ann": "", "full": "*:bytes=1000"}


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_dovecot_answers_for_each(start: Start, port: int, way: str) -> None:
    with dovecot_lmtp(USERS, tempfail=True) as dovecot:
        address = f"127.0.0.1:{dovecot.port}" if way == "tcp" else f"unix:{dovecot.socket}"
        settings = relaying(port, address)
        settings["listeners"][0]["protocol"] = "lmtp"
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        start(settings)
        with RawClient(port) as client:
            client.expect(220)
            client.command("LHLO client.example", 250)
            client.send(b"MAIL FROM:<a@example.com>\r\n")
            client.send(b"".join(b"RCPT TO:<%s@here.example>\r\n" % who for who in (b"ann", b"nobody", b"full")))
            client.send(b"DATA\r\n")
            assert [client.answer().code for _ in range(5)] == [250, 250, 550, 250, 354]
            client.send(BIG + b".\r\n")
            assert "Saved" in client.expect(250).text
            assert "Quota exceeded" in client.expect(452).text
        [mail] = dovecot.mail("ann")
        assert b"with LMTP id " in mail
        assert BIG.replace(b"\r\n", b"\n").partition(b"\n\n")[2] in mail


def test_dovecot_behind_an_smtp_client(start: Start, port: int) -> None:
    """Its client hears of one recipient at a time, and sends to the others by itself."""
    with dovecot_lmtp(USERS) as dovecot, PostfixInstance({"default_transport": f"smtp:[127.0.0.1]:{port}"}) as postfix:
        settings = relaying(port, f"unix:{dovecot.socket}")
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        start(settings)
        with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
            client.sendmail("a@example.com", ["ann@here.example", "full@here.example"], BIG)
        postfix.wait_for_log("to=<ann@here.example>", "status=sent")
        postfix.wait_for_log("to=<full@here.example>", "status=bounced", "552 5.2.2")
        assert len(dovecot.mail("ann")) == 1


def test_dovecot_gets_mail_out_of_the_spool(start: Start, port: int) -> None:
    with dovecot_lmtp(USERS) as dovecot:
        settings = relaying(port, f"127.0.0.1:{dovecot.port}")
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        [route] = settings["routes"].values()
        route |= {"acceptance": "spool"}
        waypost = start(settings)
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.sendmail("ann@here.example", ["ann@here.example", "full@here.example"], BIG)
        wait_until(lambda: len(dovecot.mail("ann")) >= 2, "the message, and the notification that one is full")
        [notice] = [mail for mail in dovecot.mail("ann") if b"multipart/report" in mail]
        assert b"Final-Recipient: rfc822; full@here.example" in notice
        assert b"Quota exceeded" in notice
        del waypost


def test_postfix_as_the_client(start: Start, port: int, tmp_path: Path) -> None:
    path = Path("/tmp") / f"waypost-{port}.lmtp"  # Postfix's user has to reach it
    main = {"default_transport": f"lmtp:unix:{path}"}
    with EachSink(verdicts={"full@x.example": "452 4.2.2 Over quota", "gone@x.example": "550 5.2.1 Closed"}) as box:
        settings = relaying(port, f"127.0.0.1:{box.port}")
        settings["listeners"].append(
            {"address": f"unix:{path}", "mode": "relay", "protocol": "lmtp", "socket_mode": "0666"}
        )
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        start(settings)
        with PostfixInstance(main, services=("lmtp unix - - n - - lmtp",)) as postfix:
            with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
                client.sendmail("a@example.com", ["bob@x.example", "full@x.example", "gone@x.example"], BIG)
            postfix.wait_for_log("to=<bob@x.example>", "status=sent", "250 2.0.0 Saved")
            postfix.wait_for_log("to=<full@x.example>", "status=deferred", "452 4.2.2 Over quota")
            postfix.wait_for_log("to=<gone@x.example>", "status=bounced", "550 5.2.1 Closed")


@pytest.mark.parametrize("way", ["LMTP", "PRDR"])
def test_swaks(start: Start, port: int, way: str) -> None:
    with EachSink(verdicts={"gone@x.example": "550 5.2.1 Closed"}) as box:
        settings = relaying(port, f"127.0.0.1:{box.port}")
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        if way == "LMTP":
            settings["listeners"][0]["protocol"] = "lmtp"
        start(settings)
        words = "--protocol LMTP" if way == "LMTP" else "--prdr"
        result = run(
            f"swaks --server 127.0.0.1:{port} {words} --from a@example.com --to bob@x.example,gone@x.example"
            " --helo client.example"
        )
        said = result.stdout
        assert b"250 2.0.0 Saved" in said, transcript(result)
        assert b"550 5.2.1 Closed" in said, transcript(result)
        assert (b"353 " in said) == (way == "PRDR"), transcript(result)
    assert [got.recipients for got in box.got] == [("bob@x.example",)]


def test_exim_answers_for_each_by_prdr(start: Start, port: int) -> None:
    with exim() as server:
        settings = relaying(port, f"127.0.0.1:{server.port}")
        settings["listeners"][0]["protocol"] = "lmtp"
        start(settings)
        with RawClient(port) as client:
            client.expect(220)
            client.command("LHLO client.example", 250)
            client.mail("a@example.com", "bob@x.example", "full@x.example", "gone@x.example")
            client.send(BIG + b".\r\n")
            assert client.expect(250).text.startswith("PRDR R=<bob@x.example> acceptance")
            assert client.expect(450).text.startswith("Come back later")
            assert client.expect(550).text.startswith("Closed for you")
        assert " PRDR S=" in server.wait_for_log("<= a@example.com")


def test_exim_asks_for_prdr(start: Start, port: int) -> None:
    verdicts = {"full@x.example": "452 4.2.2 Over quota", "gone@x.example": "550 5.2.1 Closed"}
    with EachSink(verdicts=verdicts) as box, exim(onward=port) as client:
        settings = relaying(port, f"127.0.0.1:{box.port}")
        settings["upstreams"]["primary"] |= {"protocol": "lmtp"}
        start(settings)
        with smtplib.SMTP("127.0.0.1", client.port, timeout=30) as mailer:
            mailer.sendmail("a@example.com", ["bob@x.example"], BIG)
            mailer.sendmail("a@example.com", ["carol@x.example", "full@x.example", "gone@x.example"], BIG)
        assert " PRDR" not in client.wait_for_log("=> bob@x.example")
        client.wait_for_log("=> carol@x.example", " PRDR", "250 2.0.0 Saved")
        client.wait_for_log("== full@x.example", "452 4.2.2 Over quota")
        client.wait_for_log("** gone@x.example", "550 5.2.1 Closed")
        client.wait_for_log("=> a@example.com")  # the notification of that, which comes by us as well
    assert {got.recipients for got in box.got} == {("bob@x.example",), ("carol@x.example",), ("a@example.com",)}
