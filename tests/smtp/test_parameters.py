"""The parameters of MAIL and RCPT: each typed and checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import examples
from waypost.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    ParameterError,
    RcptParameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", NO_MAIL_PARAMETERS),
        ("SIZE=0", MailParameters(size=0)),
        ("size=1234567", MailParameters(size=1234567)),
        ("SIZE=99999999999999999999", MailParameters(size=99999999999999999999)),
        ("BODY=7BIT", MailParameters(body="7BIT")),
        ("Body=8bitMIME", MailParameters(body="8BITMIME")),
        ("SMTPUTF8", MailParameters(smtputf8=True)),
        ("prdr", MailParameters(prdr=True)),
        ("RET=full", MailParameters(ret="FULL")),
        ("RET=HDRS", MailParameters(ret="HDRS")),
        ("ENVID=QQ314159", MailParameters(envid="QQ314159")),
        ("ENVID=a+2Bb+3Dc", MailParameters(envid="a+2Bb+3Dc")),
        (f"ENVID={'x' * 100}", MailParameters(envid="x" * 100)),
        ("AUTH=<>", MailParameters(auth="<>")),
        ("AUTH=e+3Dmc2@example.com", MailParameters(auth="e+3Dmc2@example.com")),
        ("SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x AUTH=<>",
         MailParameters(1, "8BITMIME", True, "HDRS", "x", "<>")),
    ],
)  # fmt: skip
def test_mail(words: str, wanted: MailParameters) -> None:
    found = parse_mail_parameters(words.split(" ") if words else [])
    assert found == wanted
    assert parse_mail_parameters(found.encode().split()) == found


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("SIZE", 501), ("SIZE=", 501), ("SIZE=-1", 501), ("SIZE=+1", 501), ("SIZE=1_0", 501), ("SIZE=١٢", 501),
        ("SIZE=1e3", 501), ("SIZE=0x10", 501), ("SIZE=" + "9" * 21, 501), ("SIZE=1 SIZE=1", 501),
        ("SIZE=1 size=2", 501), ("BODY", 501), ("BODY=", 501), ("BODY=BINARYMIME", 501), ("BODY=8BıTMIME", 501),
        ("SMTPUTF8=", 501), ("SMTPUTF8=YES", 501), ("SMTPUTF8 SMTPUTF8", 501), ("RET", 501), ("RET=BOTH", 501),
        ("RET=", 501), ("ENVID", 501), ("ENVID=", 501), ("ENVID=a=b", 501), ("ENVID=a+b", 501), ("ENVID=a+2b", 501),
        ("ENVID=ü", 501), (f"ENVID={'x' * 101}", 501), ("ENVID=a\r", 501), ("ENVID=a\x0b", 501), ("AUTH", 501),
        ("AUTH=", 501), ("AUTH=<a>=", 501), ("AUTH=a+zz", 501), ("XFOO", 555), ("XFOO=1", 555), ("NOTIFY=NEVER", 555),
        ("ORCPT=rfc822;a", 555), ("=", 555), ("=x", 555), ("ſIZE=1", 555), ("\r\n=x", 555),
        ("BODY=7BIT BODY=7BIT", 501), ("PRDR=1", 501), ("PRDR=", 501), ("PRDR PRDR", 501),
    ],
)  # fmt: skip
def test_mail_that_is_wrong(words: str, code: int) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_mail_parameters(words.split(" "))
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, (5, 5, 4))
    assert caught.value.reply.text.isascii()
    assert caught.value.reply.text.isprintable()


@pytest.mark.parametrize("word", ["RET=FULL", "ENVID=x", "RET=x"])
def test_what_is_not_offered_is_unknown(word: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_mail_parameters([word], dsn=False)
    assert caught.value.reply.code == 555
    with pytest.raises(ParameterError) as caught:
        parse_mail_parameters(["SMTPUTF8"], smtputf8=False)
    assert caught.value.reply.code == 555
    with pytest.raises(ParameterError) as caught:
        parse_rcpt_parameters(["NOTIFY=NEVER"], dsn=False)
    assert caught.value.reply.code == 555


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", NO_RCPT_PARAMETERS),
        ("NOTIFY=NEVER", RcptParameters(("NEVER",))),
        ("notify=success,Failure,DELAY", RcptParameters(("SUCCESS", "FAILURE", "DELAY"))),
        ("NOTIFY=DELAY", RcptParameters(("DELAY",))),
        ("ORCPT=rfc822;a@example.com", RcptParameters(None, "rfc822;a@example.com")),
        ("ORCPT=rfc822;a+2Bb@example.com", RcptParameters(None, "rfc822;a+2Bb@example.com")),
        ("ORCPT=utf-8;ü@example.com", RcptParameters(None, "utf-8;ü@example.com")),
        (r"ORCPT=utf-8;\x{FC}@example.com", RcptParameters(None, r"utf-8;\x{FC}@example.com")),
        ("ORCPT=x400;some+20where NOTIFY=NEVER", RcptParameters(("NEVER",), "x400;some+20where")),
    ],
)
def test_rcpt(words: str, wanted: RcptParameters) -> None:
    found = parse_rcpt_parameters(words.split(" ") if words else [])
    assert found == wanted
    assert parse_rcpt_parameters(found.encode().split()) == found


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("NOTIFY", 501), ("NOTIFY=", 501), ("NOTIFY=SOMETIMES", 501), ("NOTIFY=NEVER,DELAY", 501), ("NOTIFY=,", 501),
        ("NOTIFY=DELAY,DELAY", 501), ("NOTIFY=DELAY,", 501), ("NOTIFY=NEVER NOTIFY=NEVER", 501), ("ORCPT", 501),
        ("NOTIFY=ſUCCESS", 501), ("ORCPT=", 501), ("ORCPT=rfc822", 501), ("ORCPT=rfc822;", 501), ("ORCPT=;a@b", 501),
        ("ORCPT=rfc822;a=b", 501), ("ORCPT=rfc822;a+b", 501), ("ORCPT=rfc822;ü", 501), ("ORCPT=rfc 822;a", 501),
        (f"ORCPT=rfc822;{'x' * 500}", 501), ("ORCPT=utf-8;a=b", 501), ("SIZE=1", 555), ("XFOO", 555), ("RET=FULL", 555),
    ],
)  # fmt: skip
def test_rcpt_that_is_wrong(words: str, code: int) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_rcpt_parameters(words.split(" "))
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, (5, 5, 4))


xtext = st.text(st.sampled_from("abcXYZ0189@.-_<>;:!~"), min_size=1, max_size=20).map(lambda text: text + "+2B")

mail_parameters = st.builds(
    MailParameters,
    size=st.none() | st.integers(0, 10**12),
    body=st.sampled_from([None, "7BIT", "8BITMIME"]),
    smtputf8=st.booleans(),
    ret=st.sampled_from([None, "FULL", "HDRS"]),
    envid=st.none() | xtext,
    auth=st.none() | st.just("<>") | xtext,
    prdr=st.booleans(),
)
rcpt_parameters = st.builds(
    RcptParameters,
    notify=st.sampled_from([None, ("NEVER",), ("SUCCESS",), ("FAILURE", "DELAY"), ("DELAY", "SUCCESS", "FAILURE")]),
    orcpt=st.none() | xtext.map(lambda text: f"rfc822;{text}"),
)


@examples(200)
@given(mail_parameters, rcpt_parameters)
def test_what_is_written_is_read_again(mail: MailParameters, rcpt: RcptParameters) -> None:
    assert parse_mail_parameters(mail.encode().split(" ")[1:]) == mail
    assert parse_rcpt_parameters(rcpt.encode().split(" ")[1:]) == rcpt


@examples(300)
@given(st.lists(st.text(st.sampled_from("SIZEBODYRTNVFAUH=+;,08<> \r\nü") | st.characters(), max_size=12), max_size=3))
def test_any_words_are_parameters_or_an_error(words: list[str]) -> None:
    for parse in (parse_mail_parameters, parse_rcpt_parameters):
        try:
            found = parse(words)
        except ParameterError:
            continue
        assert not set("\r\n\0") & set(found.encode())
