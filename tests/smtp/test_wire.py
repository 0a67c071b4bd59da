"""Command lines: what is read, what is refused, and that nothing written breaks out of its line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import examples
from smtp.serving import HELLO, OPTIONS, Serving, codes, served
from waypost.smtp import commands as c
from waypost.smtp.address import NULL, Address
from waypost.smtp.errors import LocalProtocolError
from waypost.smtp.parameters import MailParameters, RcptParameters
from waypost.smtp.wire import CommandError, encode, parse

A = Address("a", "example.com")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("EHLO client.example", c.Ehlo("client.example")),
        ("ehlo [192.0.2.1]", c.Ehlo("[192.0.2.1]")),
        ("EHLO  client.example ", c.Ehlo("client.example")),
        ("EHLO bücher.example", c.Ehlo("bücher.example")),
        ("HELO x_y", c.Helo("x_y")),
        ("MAIL FROM:<>", c.Mail(NULL)),
        ("mail from:<a@example.com>", c.Mail(A)),
        ("MAIL FROM: <a@example.com>", c.Mail(A)),
        ("MAIL FROM:<@r.example:a@example.com>", c.Mail(A)),
        ('MAIL FROM:<"a > b"@example.com>', c.Mail(Address('"a > b"', "example.com"))),
        ("MAIL FROM:<a@example.com> SIZE=5", c.Mail(A, MailParameters(size=5))),
        ("MAIL FROM:<a@example.com>  SIZE=5  BODY=7BIT ", c.Mail(A, MailParameters(size=5, body="7BIT"))),
        ("MAIL FROM:<ü@example.com> SMTPUTF8", c.Mail(Address("ü", "example.com"), MailParameters(smtputf8=True))),
        ("RCPT TO:<a@example.com> NOTIFY=NEVER", c.Rcpt(A, RcptParameters(("NEVER",)))),
        ("rcpt to:<Postmaster>", c.Rcpt(Address("Postmaster", ""))),
        ("DATA", c.Data()),
        ("data ", c.Data()),
        ("BDAT 0", c.Bdat(0)),
        ("bdat 12 last", c.Bdat(12, last=True)),
        ("BDAT 00012  LAST", c.Bdat(12, last=True)),
        ("RSET", c.Rset()),
        ("NOOP", c.Noop()),
        ("NOOP whatever you say", c.Noop()),
        ("HELP MAIL", c.Help()),
        ("VRFY someone", c.Vrfy("someone")),
        ("EXPN list", c.Expn("list")),
        ("QUIT", c.Quit()),
        ("STARTTLS", c.StartTls()),
        ("AUTH plain", c.Auth("PLAIN")),
        ("AUTH PLAIN AGEAYg==", c.Auth("PLAIN", "AGEAYg==")),
        ("AUTH LOGIN =", c.Auth("LOGIN", "=")),
    ],
)
def test_commands_are_read(line: str, command: c.Command) -> None:
    assert parse(line.encode()) == command
    assert parse(encode(command).removesuffix(b"\r\n")) == command


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 500), (" ", 500), ("XYZZY", 500), (" DATA", 500), ("DATA\tx", 500), ("MAILFROM:<a@b>", 500), ("\xa0", 500),
        ("R\u017fET", 500), ("QU\u0131T", 500), ("EHLO", 501), ("EHLO a b", 501), ("EHLO a\tb", 501), ("HELO", 501),
        ("EHLO a\x1bb", 501), ("EHLO a\u2028b", 501), ("MAIL", 501), ("MAIL FROM", 501), ("MAIL FROM:", 501),
        ("MAIL FROM:a@example.com", 501), ("MAIL TO:<a@b>", 501), ("MAIL FROM :<a@b>", 501), ("MAIL FROM:<a@b", 501),
        ("MAIL FROM:<a@b>SIZE=1", 501), ("MAIL FROM:<a@b> SIZE=x", 501), ("MAIL FROM:<a@b> XX=1", 555),
        ("MAIL FROM:<a b@c>", 501), ("MAIL FROM:<a@b>> SIZE=1", 501), ("MAIL FROM:<<a@b>>", 501), ("MAIL FROM:<a>",
        501),
        ("MAIL FROM:<a@b> <c@d>", 555), ("MAIL FROM:<ü@b>", 553), ("MAIL FROM:<a@b>\xa0SIZE=1", 501),
        ("MAIL FROM:<a@b> SIZE=1\tBODY=7BIT", 501), ("MAIL FROM:<a@b> SIZE=1\xa0BODY=7BIT", 501), ("RCPT TO:<>", 501),
        ("RCPT TO:<a@b> SIZE=1", 555), ("RCPT FROM:<a@b>", 501), ("RCPT TO:a@b", 501), ("RCPT TO:<a@b>,<c@d>", 501),
        ("DATA now", 501), ("RSET now", 501), ("QUIT now", 501), ("STARTTLS now", 501), ("BDAT", 501), ("BDAT x", 501),
        ("BDAT -1", 501), ("BDAT 1 FIRST", 501), ("BDAT 1LAST", 501), ("BDAT 1 LAST LAST", 501), ("BDAT 1_0", 501),
        ("BDAT +1", 501), ("BDAT ١٢", 501), ("BDAT " + "9" * 20, 501), ("BDAT 0x10", 501), ("AUTH", 501),
        ("AUTH PLAIN a b", 501), ("AUTH PLAIN  a", 501), ("AUTH PL:AIN", 501), ("AUTH " + "X" * 21, 501),
    ],
)  # fmt: skip
def test_lines_are_refused(line: str, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        parse(line.encode())
    assert caught.value.reply.code == code
    assert caught.value.reply.enhanced is not None


LINES = [
    "EHLO a%sb", "HELO a%sb", "MAIL FROM:<a%sb@example.com>", "MAIL FROM:<a@exam%sple.com>", 'MAIL FROM:<"a%sb"@c.d>',
    "MAIL FROM:<a@b.c> ENVID=a%sb", "MAIL FROM:<a@b.c> AUTH=a%sb", "MAIL FROM:<a@b.c>%s", "MAIL FROM:%s<a@b.c>",
    "RCPT TO:<a%sb@example.com>", "RCPT TO:<a@b.c> ORCPT=rfc822;a%sb", "RCPT TO:<a@b.c> ORCPT=utf-8;a%sb",
    "RCPT TO:<a@b.c>%s",
    "DATA%s", "RSET%s", "NOOP a%sb", "HELP a%sb", "VRFY a%sb", "EXPN a%sb", "QUIT%s", "STARTTLS%s", "AUTH PLAIN a%sb",
    "AUTH%sPLAIN", "BDAT 1%s", "%sNOOP",
]  # fmt: skip


@pytest.mark.parametrize("template", LINES)
@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\n\r", "\r\r"])
def test_no_argument_of_any_command_may_hold_cr_lf_or_nul(template: str, octet: str) -> None:
    line = (template % octet).encode()
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert caught.value.reply.code == 500
    if b"\r\n" not in line:
        serving = served(line + b"\r\n")
        assert codes(serving.output)[0] == 500
        assert not serving.messages
        assert not [event for event in serving.trace if isinstance(event, (c.Mail, c.Rcpt, c.Data))]


any_text = st.text(st.sampled_from('ab@. <>\r\n\0"\\') | st.characters(), max_size=8)
any_address = st.builds(Address, any_text, any_text)
any_command = st.one_of(
    st.builds(c.Mail, any_address, st.builds(MailParameters, envid=any_text, auth=any_text, ret=any_text,
    body=any_text)),
    st.builds(c.Rcpt, any_address, st.builds(RcptParameters, st.lists(any_text).map(tuple), any_text)),
    st.builds(c.Ehlo, any_text), st.builds(c.Helo, any_text), st.builds(c.Vrfy, any_text), st.builds(c.Expn, any_text),
    st.builds(c.Auth, any_text, any_text), st.builds(c.AuthResponse, any_text), st.just(c.Connect()),
    st.builds(c.Bdat, st.integers(0, 10**19 - 1), st.booleans()),
)  # fmt: skip


@examples(500)
@given(any_command)
def test_nothing_that_is_written_breaks_out_of_its_line(command: c.Command) -> None:
    try:
        line = encode(command)
    except LocalProtocolError:
        return
    assert line.endswith(b"\r\n")
    assert not set(b"\r\n\0") & set(line[:-2])


@examples(500)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_line_is_a_command_or_an_error(rest: bytes) -> None:
    for verb in (
        b"",
        b"EHLO ",
        b"MAIL FROM:<",
        b"MAIL FROM:<a@b> ",
        b"RCPT TO:<",
        b"RCPT TO:<a@b> ",
        b"BDAT ",
        b"AUTH ",
    ):
        try:
            command = parse(verb + rest)
        except CommandError as error:
            answer = error.reply
        else:
            assert parse(encode(command)[:-2]) == command
            continue
        assert answer.code in (500, 501, 553, 555)
        assert len(answer.encode()) <= 512


@pytest.mark.parametrize(
    ("beginning", "limit"),
    [
        (b"NOOP ", 510),
        (b"EHLO ", 510),
        (b"XYZZY", 510),
        (b"MAIL FROM:<a@example.com> ENVID=", 2046),
        (b"mail FROM:<a@example.com> ENVID=", 2046),
        (b"RCPT TO:<", 2046),
        (b"AUTH PLAIN ", 12286),
    ],
)
def test_lines_have_a_limit(beginning: bytes, limit: int) -> None:
    for octets, too_long in ((limit, False), (limit + 1, True), (20 * limit, True)):
        line = beginning + b"x" * (octets - len(beginning))
        for pieces in ([line + b"\r\n"], [line, b"\r", b"\n"], [line[:400], line[400:] + b"\r\n"]):
            serving = served(*pieces)
            assert len(codes(serving.output)) == 1
            assert (b"too long" in serving.output) == too_long, (octets, serving.output)
            assert codes(serving.feed(b"NOOP\r\n")) == [250]


def test_a_response_has_a_limit_of_its_own() -> None:
    options = replace(OPTIONS, auth=True, allow_plaintext_auth=True)
    for octets, code in ((12286, 501), (12287, 500), (50_000, 500)):
        for cut in (b"", b"\r"):
            serving = Serving(options)
            serving.feed(HELLO, b"AUTH PLAIN\r\n")
            assert codes(serving.feed(b"!" * octets + cut, b"\r\n"[len(cut) :])) == [code]
            assert codes(serving.feed(b"NOOP\r\n")) == [250]


def test_the_secret_of_auth_has_no_printable_form() -> None:
    for command in (c.Auth("PLAIN", "AGEAYg=="), c.AuthResponse("AGEAYg==")):
        assert "AGEAYg" not in repr(command)
        assert "AGEAYg" not in str(command)


def test_a_client_that_ends_its_lines_with_lf_is_told_at_once_and_once() -> None:
    """It would wait for ever otherwise, for an answer to a line that never ends."""
    serving = served(b"NOOP\n")
    assert codes(serving.output) == [500]
    assert serving.feed(b"NOOP\nMAIL FROM:<a@example.com>\n" * 100) == b""
    assert codes(serving.feed(b"\r\nNOOP\r\n")) == [250]
