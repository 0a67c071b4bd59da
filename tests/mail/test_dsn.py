"""Notifications as messages: what is in them, and that no words of anybody's can change what they are."""

import quopri
import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import content as contents
from smtp.examples import examples
from waypost.mail.content import MemoryContent
from waypost.mail.dsn import Composed, compose
from waypost.mail.dsn_original import MAX_HEADER, MAX_WHOLE, original_header
from waypost.mail.dsn_status import from_xtext, status_code
from waypost.mail.message import Client, Envelope, Message, Recipient
from waypost.mail.notification import Action, Notification
from waypost.mail.outcome import Answer, Cause, Failure, Phase, RecipientOutcome, Status
from waypost.mail.quoted_printable import quoted_printable
from waypost.mail.trace import date_time, loops
from waypost.smtp.address import Address
from waypost.smtp.content import DotReader, Inspector, unstuffed
from waypost.smtp.parameters import MailParameters, RcptParameters
from waypost.smtp.reply import Reply, from_wire, reply

ANN = Address("ann", "example.com")
ÈVE = Address("ève", "exämple.com")
BOB = Recipient(Address("bob", "example.org"))
CY = Recipient(Address("cy", "example.org"))
NOBODY = reply(550, "5.1.1", "No such user here")
LATER = reply(452, "4.2.2", "Mailbox full")
DOWN = Failure(Phase.CONNECT, Cause.UNREACHABLE, "10.1.2.3:25: connection refused")
ORIGINAL = b"Subject: lunch\r\nMessage-ID: <1.x@example.com>\r\nFrom: ann@example.com\r\n\r\nAt noon?\r\n..\r\nAnn\r\n"
RECEIVED_AT, AT, UNTIL = 1_000_000_000, 1_000_000_600, 1_000_432_000


def refused(recipient: Recipient = BOB, answer: Answer = NOBODY) -> RecipientOutcome:
    return RecipientOutcome(recipient, Status.FAILED, answer, "provider")


def late(recipient: Recipient = BOB, answer: Answer = LATER) -> RecipientOutcome:
    return RecipientOutcome(recipient, Status.DEFERRED, answer, "provider")


def notification(
    *outcomes: RecipientOutcome,
    action: Action = Action.FAILED,
    content: bytes = ORIGINAL,
    reverse_path: Address = ANN,
    parameters: MailParameters = MailParameters(),  # noqa: B008  # immutable
) -> Notification:
    outcomes = outcomes or (refused(),)
    envelope = Envelope(reverse_path, tuple(each.recipient for each in outcomes), parameters)
    message = Message("ID0", RECEIVED_AT, Client("submission", "192.0.2.7", 1), envelope, MemoryContent(content))
    return Notification(
        "ID1", AT, action, message, outcomes, "relay.example.net", "MAILER-DAEMON@relay.example.net",
        {"provider": "mx.example.org"}, UNTIL,
    )  # fmt: skip


def plain(composed: Composed) -> bytes:
    return b"".join(unstuffed([composed.content]))


def parsed(composed: Composed) -> EmailMessage:
    """The message as a mail program reads it, after all that must hold of any has been checked."""
    octets = plain(composed)
    assert re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets) is None
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert composed.eightbit or octets.isascii()
    assert octets.endswith(b"\r\n")
    reader = DotReader()
    assert reader.read(composed.content + b".\r\n") == (composed.content, 0)
    inspector = Inspector(max_size=1_000_000, max_line=998, repair=False)
    inspector.look(octets, final=True)
    assert inspector.finding is None
    message = message_from_bytes(octets, policy=policy.SMTPUTF8 if composed.smtputf8 else policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    parts = message.get_payload()
    assert 2 <= len(parts) <= 3
    for part in (message, *parts):
        assert part.defects == []
    assert parts[0].get_content_type() == "text/plain"
    kind = "message/global-delivery-status" if composed.smtputf8 else "message/delivery-status"
    assert parts[1].get_content_type() == kind
    assert header_names(octets) <= {
        "Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "In-Reply-To", "References", "MIME-Version",
        "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    return message


def header_names(octets: bytes) -> set[str]:
    """The names in the header, each of which occurs once."""
    lines = octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in lines if not line.startswith(b" ")]
    assert len(set(names)) == len(names)
    return set(names)


def status_groups(composed: Composed) -> list[list[tuple[str, str]]]:
    """The second part as it is on the wire: groups of fields, without a library's opinion on their values."""
    boundary = re.search(rb'boundary="([^"]+)"', composed.content)
    part = plain(composed).split(b"\r\n--" + boundary[1])[2]
    body = part.partition(b"\r\n\r\n")[2].decode("utf-8")
    return [
        [(name, value) for name, _, value in (line.partition(": ") for line in group.split("\r\n"))]
        for group in body.split("\r\n\r\n")
    ]


def text(composed: Composed) -> str:
    """What people read, its lines joined."""
    return " ".join(parsed(composed).get_payload()[0].get_content().split())


# -- what is in it


def test_a_refusal_as_its_author_reads_it() -> None:
    message = parsed(compose(notification()))
    assert {name: str(value) for name, value in message.items() if not name.startswith("Content-")} == {
        "Date": "Sun, 09 Sep 2001 01:56:40 +0000",
        "From": "Mail delivery <MAILER-DAEMON@relay.example.net>",
        "To": "ann@example.com",
        "Subject": "Undelivered: lunch",
        "Message-ID": "<ID1@relay.example.net>",
        "Auto-Submitted": "auto-replied",
        "In-Reply-To": "<1.x@example.com>",
        "References": "<1.x@example.com>",
        "MIME-Version": "1.0",
    }
    people = message.get_payload()[0].get_content()
    assert (
        "\r\n<bob@example.org>\r\n    It was refused. The answer was:\r\n    550 5.1.1 No such user here\r\n" in people
    )
    assert "Check the address for mistakes" in people
    assert "The header of your message is attached." in people
    assert "provider" not in people
    assert "mx.example.org" not in people


def test_every_field_that_programs_read() -> None:
    bob = Recipient(BOB.address, RcptParameters(("FAILURE",), "rfc822;bob+2Bnews@example.net"))
    composed = compose(
        notification(refused(bob), late(CY), parameters=MailParameters(envid="QQ314+2B159"), action=Action.FAILED)
    )
    assert status_groups(composed) == [
        [
            ("Original-Envelope-Id", "QQ314+159"),
            ("Reporting-MTA", "dns; relay.example.net"),
            ("Arrival-Date", "Sun, 09 Sep 2001 01:46:40 +0000"),
        ],
        [
            ("Original-Recipient", "rfc822; bob+news@example.net"),
            ("Final-Recipient", "rfc822; bob@example.org"),
            ("Action", "failed"),
            ("Status", "5.1.1"),
            ("Remote-MTA", "dns; mx.example.org"),
            ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
            ("Last-Attempt-Date", "Sun, 09 Sep 2001 01:56:40 +0000"),
        ],
        [
            ("Final-Recipient", "rfc822; cy@example.org"),
            ("Action", "failed"),
            ("Status", "4.2.2"),
            ("Remote-MTA", "dns; mx.example.org"),
            ("Diagnostic-Code", "smtp; 452 4.2.2 Mailbox full"),
            ("Last-Attempt-Date", "Sun, 09 Sep 2001 01:56:40 +0000"),
        ],
    ]
    groups = parsed(composed).get_payload()[1].get_payload()
    assert [group["Action"] for group in groups] == [None, "failed", "failed"]


def test_nobody_answered() -> None:
    composed = compose(notification(late(answer=DOWN)))
    assert dict(status_groups(composed)[1]) == {
        "Final-Recipient": "rfc822; bob@example.org",
        "Action": "failed",
        "Status": "4.4.7",
        "Last-Attempt-Date": date_time(AT),
    }
    assert "It was tried until its time was over. The next mail server could not be reached." in text(composed)
    assert b"10.1.2.3" not in composed.content


def test_a_delay_says_how_long_it_goes_on() -> None:
    composed = compose(notification(late(answer=DOWN), action=Action.DELAYED, parameters=MailParameters(ret="FULL")))
    fields = dict(status_groups(composed)[1])
    assert (fields["Action"], fields["Status"], fields["Will-Retry-Until"]) == ("delayed", "4.4.1", date_time(UNTIL))
    assert str(parsed(composed)["Subject"]) == "Delayed: lunch"
    assert "should not send it again" in text(composed)
    assert "Thu, 13 Sep 2001" not in text(composed).replace(date_time(UNTIL), "")
    assert parsed(composed).get_payload()[2].get_content_type() == "text/rfc822-headers", "only failures return it all"


def test_a_relayed_message() -> None:
    taken = RecipientOutcome(BOB, Status.RELAYED, reply(250, None, "OK"), "provider")
    composed = compose(notification(taken, action=Action.RELAYED))
    fields = dict(status_groups(composed)[1])
    assert (fields["Action"], fields["Status"]) == ("relayed", "2.0.0")
    assert "Will-Retry-Until" not in fields
    assert str(parsed(composed)["Subject"]) == "Relayed: lunch"
    assert "does not confirm" in text(composed)


def test_in_doubt_is_said_in_so_many_words() -> None:
    doubtful = RecipientOutcome(BOB, Status.IN_DOUBT, Failure(Phase.DOT, Cause.TIMEOUT, "no answer"), "provider")
    said = text(compose(notification(doubtful)))
    assert "did not say whether it took it" in said
    assert "it may have arrived" in said


@pytest.mark.parametrize(
    ("outcome", "action", "wanted"),
    [
        (refused(), Action.FAILED, (5, 1, 1)),
        (refused(answer=reply(550, None, "no")), Action.FAILED, (5, 0, 0)),
        (refused(answer=reply(450, "4.7.1", "greylisted for ever")), Action.FAILED, (5, 7, 1)),
        (
            refused(answer=Failure(Phase.MAIL, Cause.CAPABILITY, "no upstream offers SMTPUTF8")),
            Action.FAILED,
            (5, 6, 7),
        ),
        (refused(answer=Failure(Phase.DATA, Cause.CAPABILITY, "the content is 8-bit")), Action.FAILED, (5, 6, 3)),
        (refused(answer=Failure(Phase.MAIL, Cause.CAPABILITY, "up to SIZE 10")), Action.FAILED, (5, 3, 4)),
        (refused(answer=Failure(Phase.DATA, Cause.LOCAL, "the file is gone")), Action.FAILED, (5, 3, 0)),
        (late(), Action.FAILED, (4, 2, 2)),
        (late(answer=reply(451, None, "later")), Action.FAILED, (4, 4, 7)),
        (late(answer=reply(535, "5.7.8", "our password")), Action.FAILED, (4, 4, 7)),
        (late(answer=DOWN), Action.FAILED, (4, 4, 7)),
        (late(), Action.DELAYED, (4, 2, 2)),
        (late(answer=reply(535, "5.7.8", "our password")), Action.DELAYED, (4, 0, 0)),
        (late(answer=DOWN), Action.DELAYED, (4, 4, 1)),
        (late(answer=Failure(Phase.EHLO, Cause.TIMEOUT, "")), Action.DELAYED, (4, 4, 2)),
        (late(answer=Failure(Phase.TLS, Cause.TLS, "")), Action.DELAYED, (4, 7, 5)),
        (late(answer=reply(250, "2.1.5", "ok")), Action.RELAYED, (2, 1, 5)),
        (late(answer=DOWN), Action.RELAYED, (2, 0, 0)),
    ],
)
def test_status(outcome: RecipientOutcome, action: Action, wanted: tuple[int, int, int]) -> None:
    assert status_code(notification(outcome, action=action), outcome) == wanted


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words_and_a_status(cause: Cause) -> None:
    for outcome in (refused(answer=Failure(Phase.EHLO, cause, "x")), late(answer=Failure(Phase.EHLO, cause, "x"))):
        for action in Action:
            parsed(compose(notification(outcome, action=action)))


def test_an_address_is_a_host_too() -> None:
    for host, written in (("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("mx.x", "mx.x")):
        composed = compose(replace(notification(), hosts={"provider": host}))
        assert dict(status_groups(composed)[1])["Remote-MTA"] == f"dns; {written}"
    assert "Remote-MTA" not in dict(status_groups(compose(replace(notification(), hosts={})))[1])


# -- the original


def test_the_header_comes_back() -> None:
    for ret in (None, "HDRS"):
        part = parsed(compose(notification(parameters=MailParameters(ret=ret)))).get_payload()[2]
        assert part.get_content_type() == "text/rfc822-headers"
        assert part.get_payload(decode=True) == original_header(MemoryContent(ORIGINAL))


def returned_whole(composed: Composed) -> bytes:
    boundary = re.search(rb'boundary="([^"]+)"', composed.content)
    part = plain(composed).split(b"\r\n--" + boundary[1])[3]
    return part.partition(b"\r\n\r\n")[2]


def test_the_whole_message_comes_back_octet_by_octet() -> None:
    full = MailParameters(ret="FULL")
    composed = compose(notification(parameters=full))
    assert parsed(composed).get_payload()[2].get_content_type() == "message/rfc822"
    assert returned_whole(composed) == b"".join(unstuffed([ORIGINAL]))
    assert not composed.eightbit
    eightbit = ORIGINAL + "Grüße\r\n".encode("latin-1")
    composed = compose(notification(parameters=full, content=eightbit))
    assert composed.eightbit
    assert parsed(composed)["Content-Transfer-Encoding"] == "8bit"
    assert parsed(composed).get_payload()[2]["Content-Transfer-Encoding"] == "8bit"
    assert returned_whole(composed) == b"".join(unstuffed([eightbit]))
    assert "Your message is attached." in text(composed)


@pytest.mark.parametrize(
    ("content", "answer", "why"),
    [
        (ORIGINAL + b"x" * 70 + b"\r\n" * MAX_WHOLE, NOBODY, "the whole is larger than 256 KiB."),
        (ORIGINAL + b"x" * 999 + b"\r\n", NOBODY, "the whole has lines that cannot be sent."),
        (ORIGINAL + b"a\rb\r\n", NOBODY, "the whole has lines that cannot be sent."),
        (b"X: \xfc\r\n" + ORIGINAL, NOBODY, "the whole has characters in its header"),
        (
            ORIGINAL + b"\xfc\r\n",
            Failure(Phase.DATA, Cause.CAPABILITY, "8-bit"),
            "the whole could not be sent on for the same reason.",
        ),
    ],
)
def test_what_cannot_travel_comes_back_as_header(content: bytes, answer: Answer, why: str) -> None:
    composed = compose(notification(refused(answer=answer), content=content, parameters=MailParameters(ret="FULL")))
    message = parsed(composed)
    assert not composed.eightbit
    part = message.get_payload()[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload(decode=True) == original_header(MemoryContent(content))
    assert f"Only the header of your message is attached: {why}" in text(composed)


def test_an_original_that_cannot_be_read_is_left_out() -> None:
    class Broken(MemoryContent):
        def head(self, limit: int) -> bytes:
            raise OSError("input/output error")

    whole = notification()
    composed = compose(replace(whole, message=replace(whole.message, content=Broken(b"Subject: x\r\n\r\n"))))
    message = parsed(composed)
    assert len(message.get_payload()) == 2
    assert str(message["Subject"]) == "Undelivered mail"
    assert "cannot be read any more" in text(composed)


def test_the_header_is_cut_at_a_field_and_ends_where_the_header_ends() -> None:
    many = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 70) for number in range(2000))
    header = original_header(MemoryContent(many + b"\r\nbody"))
    assert MAX_HEADER - 100 < len(header) <= MAX_HEADER
    assert many.startswith(header)
    assert header.endswith(b"y\r\n")
    assert original_header(MemoryContent(b"..X: 1\r\nY: 2\r\n z\r\n\r\nZ: 3\r\n")) == b".X: 1\r\nY: 2\r\n z\r\n"
    assert original_header(MemoryContent(b"X: 1\r\nno field\r\nY: 2\r\n\r\n")) == b"X: 1\r\n"
    assert original_header(MemoryContent(b"X: 1")) == b"X: 1\r\n"
    assert original_header(MemoryContent(b"just text\r\n")) == b""
    assert len(parsed(compose(notification(content=b"just text\r\n"))).get_payload()) == 2


# -- words of others


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        (b"lunch", "Undelivered: lunch"),
        (b"a  b\r\n c", "Undelivered: a  b c"),
        (b"=?utf-8?q?l=C3=BCnch?= =?utf-8?b?w7w=?=", "Undelivered: lünchü"),
        (b"", "Undelivered mail"),
        (b"l\xc3\xbcnch", "Undelivered mail"),
        (b"a\rBcc: x", "Undelivered: a Bcc: x"),
        (b"a\x00b", "Undelivered mail"),
        (b"=?utf-8?b?x?=", "Undelivered mail"),
        (b"=?utf-8?q?a\tb?=", "Undelivered mail"),
        (b"=?utf-8?q?" + b"a" * 300 + b"?=", "Undelivered mail"),
        (b"x" * 300, f"Undelivered: {'x' * 200} ..."),
        (b"word " * 60, "Undelivered: " + " ".join(["word"] * 40) + " ..."),
    ],
)
def test_the_subject_is_kept_where_it_can_do_no_harm(subject: bytes, wanted: str) -> None:
    assert str(parsed(compose(notification(content=b"Subject: %b\r\n\r\n" % subject)))["Subject"]) == wanted


@pytest.mark.parametrize(
    "message_id",
    [b"", b"x", b"<x>", b"<a b@c>", b"<a@b> <c@d>", b"<a@b>, x", b"<\xfc@b>", b"<a@" + b"b" * 300 + b">", b"<<a@b>>"],
)
def test_a_malformed_message_id_is_not_referred_to(message_id: bytes) -> None:
    message = parsed(compose(notification(content=b"Message-ID: %b\r\n\r\n" % message_id)))
    assert message["In-Reply-To"] is None
    assert message["References"] is None


def test_what_is_encoded_in_a_parameter_stays_encoded_when_it_would_break_out() -> None:
    orcpt = "rfc822;x+0D+0AAction:+20delivered+00+C3"
    bob = Recipient(BOB.address, RcptParameters(None, orcpt))
    composed = compose(notification(refused(bob), parameters=MailParameters(envid="a+0D+0AStatus:+202.0.0")))
    groups = status_groups(composed)
    assert dict(groups[0])["Original-Envelope-Id"] == "a+0D+0AStatus: 2.0.0"
    assert dict(groups[1])["Original-Recipient"] == "rfc822; x+0D+0AAction: delivered+00+C3"
    assert [name for name, _ in groups[1]].count("Action") == 1


def test_an_upstreams_words_stay_in_one_line_and_in_bounds() -> None:
    words = from_wire(550, [b"5.1.1 no\x0b\x85\r", "日本\u2028語".encode(), b"Status: 2.0.0 " + b"x" * 500])
    fields = dict(status_groups(compose(notification(refused(answer=words))))[1])
    assert fields["Status"] == "5.1.1"
    assert fields["Diagnostic-Code"].startswith(r"smtp; 550 5.1.1 no \x85 \x{65E5}\x{672C} \x{8A9E} Status: 2.0.0 xxx")
    emoji = dict(status_groups(compose(notification(refused(answer=Reply(550, ("😀" * 400,))))))[1])
    assert re.fullmatch(r"smtp; 550 (\\x\{1F600\})+", emoji["Diagnostic-Code"]), "cut between characters"


def test_another_boundary_is_chosen_when_the_original_has_ours() -> None:
    forged = ORIGINAL + b"\r\n--=_ID1_0--\r\n--=_ID1_1\r\n"
    composed = compose(notification(content=forged, parameters=MailParameters(ret="FULL")))
    assert parsed(composed).get_boundary() == "=_ID1_2"
    assert returned_whole(composed) == b"".join(unstuffed([forged]))


def test_our_own_loop_detection_lets_it_pass() -> None:
    received = b"Received: by relay.example.net (Waypost abc) with SMTP; x\r\n" * 100
    composed = compose(notification(content=received + ORIGINAL, parameters=MailParameters(ret="FULL")))
    assert loops(composed.content, "abc", 100) is None


# -- addresses beyond ASCII (RFC 6533)


def test_who_has_an_ascii_address_gets_ascii() -> None:
    eve = Recipient(ÈVE, RcptParameters(None, r"utf-8;\x{E8}ve+2B@exämple.com"))
    composed = compose(notification(refused(eve), parameters=MailParameters(smtputf8=True)))
    assert (composed.smtputf8, composed.eightbit) == (False, False)
    fields = dict(status_groups(composed)[1])
    assert fields["Original-Recipient"] == r"utf-8; \x{E8}ve\x{2B}@ex\x{E4}mple.com"
    assert fields["Final-Recipient"] == r"utf-8; \x{E8}ve@ex\x{E4}mple.com"
    assert "<ève@exämple.com>" in text(composed)


def test_who_has_an_address_beyond_ascii_gets_utf8() -> None:
    eve = Recipient(ÈVE, RcptParameters(None, r"utf-8;\x{E8}v\x{D}e+2B@exämple.com"))
    content = "Subject: Grüße\r\n\r\nbody\r\n".encode()
    answer = reply(550, "5.1.1", "inconnue à cette adresse")
    composed = compose(notification(refused(eve, answer), reverse_path=ÈVE, content=content))
    message = parsed(composed)
    assert (composed.smtputf8, composed.eightbit) == (True, True)
    assert str(message["Subject"]) == "Undelivered: Grüße"
    assert str(message["To"]) == "ève@exämple.com"
    fields = dict(status_groups(composed)[1])
    assert fields["Original-Recipient"] == r"utf-8; èv\x{D}e+@exämple.com"
    assert fields["Final-Recipient"] == "utf-8; ève@exämple.com"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 inconnue à cette adresse"
    assert message.get_payload()[2].get_content_type() == "message/global-headers"
    full = compose(notification(refused(eve), reverse_path=ÈVE, content=content, parameters=MailParameters(ret="FULL")))
    assert parsed(full).get_payload()[2].get_content_type() == "message/global"
    assert returned_whole(full) == content
    latin = compose(notification(refused(eve), reverse_path=ÈVE, content=b"Subject: \xfc\r\n\r\n"))
    assert parsed(latin).get_payload()[2].get_content_type() == "text/rfc822-headers"


def test_addresses_of_any_length_fit_in_their_lines() -> None:
    for character in ("a", "ü", "日", "😀"):
        long = Address(character * 1000, "example.com")
        parsed(compose(notification(refused(Recipient(long)))))
        parsed(compose(notification(refused(Recipient(long)), reverse_path=long)))


# -- anything at all

hostile = st.text(
    st.sampled_from('ab \r\n\t\0:;.=?<>@\\"+{}-_\x0b\x0c\x1c\x85\u2028éü日😀') | st.characters(), max_size=40
)
xtext = st.text("aB0.@!~\\{}-", max_size=10).flatmap(
    lambda text: st.lists(st.sampled_from(["+0D", "+0A", "+20", "+2B", "+00", "+FF", "x"]), max_size=8).map(
        lambda escapes: (text + "".join(escapes)) or "x"
    )
)
answers = st.one_of(
    st.builds(
        from_wire,
        st.sampled_from([250, 421, 450, 550, 554]),
        st.lists(hostile.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=30), min_size=1),
    ),
    st.builds(Failure, st.sampled_from(Phase), st.sampled_from(Cause), hostile),
    st.builds(Reply, st.just(550), st.lists(hostile, max_size=3).map(tuple)),
)
recipients = st.builds(
    Recipient,
    st.builds(Address, hostile, hostile) | st.just(BOB.address),
    st.builds(
        RcptParameters,
        st.none(),
        st.none() | xtext.map("rfc822;{}".format) | hostile.map("utf-8;{}".format) | hostile,
    ),
)
outcomes = st.builds(RecipientOutcome, recipients, st.sampled_from(Status), answers, st.just("provider"))
headers = st.lists(
    st.sampled_from([b"Subject: ", b"Message-ID: ", b"Message-ID: <a@b>", b"\r\n", b"\r\n ", b"..x: ", b"--=_ID1_0"])
    | st.binary(max_size=20)
    | hostile.map(lambda text: text.encode("utf-8", "surrogatepass")),
    max_size=12,
).map(b"".join)


@examples(300)
@given(
    st.lists(outcomes, min_size=1, max_size=3),
    st.sampled_from(Action),
    headers | contents,
    st.sampled_from([ANN, ÈVE]),
    st.builds(
        MailParameters, ret=st.sampled_from([None, "FULL", "HDRS"]), envid=st.none() | xtext, smtputf8=st.booleans()
    ),
)
def test_any_words_make_a_well_formed_notification(
    outcomes: list[RecipientOutcome], action: Action, content: bytes, reverse_path: Address, parameters: MailParameters
) -> None:
    composed = compose(
        notification(*outcomes, action=action, content=content, reverse_path=reverse_path, parameters=parameters)
    )
    message = parsed(composed)
    assert composed.smtputf8 == (reverse_path is ÈVE)
    assert str(message["To"]) == str(reverse_path)
    assert str(message["Auto-Submitted"]) == "auto-replied"
    first, *groups = status_groups(composed)
    known = {"Reporting-MTA": "dns; relay.example.net", "Arrival-Date": date_time(RECEIVED_AT)}
    if parameters.envid is not None:
        known["Original-Envelope-Id"] = from_xtext(parameters.envid)
    assert dict(first) == known
    assert len(first) == len(known)
    assert len(groups) == len(outcomes)
    for group, outcome in zip(groups, outcomes, strict=True):
        names = [name for name, _ in group]
        assert len(set(names)) == len(names)
        assert set(names) <= {
            "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
            "Last-Attempt-Date", "Will-Retry-Until",
        }  # fmt: skip
        assert dict(group)["Action"] == action
        assert ("Original-Recipient" in names) == (outcome.recipient.parameters.orcpt is not None)
        assert ("Diagnostic-Code" in names) == isinstance(outcome.answer, Reply)
    if len(message.get_payload()) == 3:
        part = message.get_payload()[2]
        if part.get_content_maintype() == "text":
            assert part.get_payload(decode=True) == original_header(MemoryContent(content))
        elif part.get_content_type() == "message/global-headers":
            assert returned_whole(composed) == original_header(MemoryContent(content))
        else:
            assert returned_whole(composed) == b"".join(unstuffed([content]))


@examples(300)
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b" ", b"=", b"a", b"\r\n", b"\t", b"."]), max_size=300).map(b"".join)
)
def test_quoted_printable_is_read_again_by_others(data: bytes) -> None:
    encoded = quoted_printable(data)
    assert quopri.decodestring(encoded) == data
    assert encoded.isascii()
    for line in encoded.split(b"\r\n"):
        assert len(line) <= 76
        assert not re.search(rb"[\r\n\0]|[ \t]\Z", line)
