"""The written form of faults: what it means, and what is said of mistakes."""

import pytest

from waypost.sink.faults import Babble, Close, CloseAfter, Delay, Fault, Garbage, Hang, Phase, Say
from waypost.sink.grammar import FaultError, parse_fault
from waypost.smtp.reply import Reply, reply


@pytest.mark.parametrize(
    ("text", "phase", "action"),
    [
        ("mail=451", Phase.MAIL, Say(Reply(451, ("As ordered",)))),
        ("mail=451 4.3.0", Phase.MAIL, Say(reply(451, "4.3.0", ""))),
        ("mail=451 4.3.0 Come back later", Phase.MAIL, Say(reply(451, "4.3.0", "Come back later"))),
        ("dot=250 Thanks: a lot", Phase.DOT, Say(Reply(250, ("Thanks: a lot",)))),
        ("data=354 see http://example.com", Phase.DATA, Say(Reply(354, ("see http://example.com",)))),
        ("connect=delay 2.5", Phase.CONNECT, Delay(2.5)),
        ("rcpt=delay 3s", Phase.RCPT, Delay(3.0)),
        ("greeting=hang", Phase.GREETING, Hang()),
        ("content=close", Phase.CONTENT, Close()),
        ("after-dot=close", Phase.AFTER_DOT, Close()),
        ("quit=close-after", Phase.QUIT, CloseAfter()),
        ("content=close-after 421 4.3.2 Going down", Phase.CONTENT, CloseAfter(reply(421, "4.3.2", "Going down"))),
        ("starttls=garbage", Phase.STARTTLS, Babble(Garbage.BINARY)),
        ("auth=garbage mismatch", Phase.AUTH, Babble(Garbage.MISMATCH)),
        (" EHLO = Garbage Endless ", Phase.EHLO, Babble(Garbage.ENDLESS)),
    ],
)
def test_an_action_is_understood(text, phase, action):
    found = parse_fault(text)

    assert (found.phase, found.action) == (phase, action)
    assert found == Fault(phase, action, text=text.strip())


def test_conditions_are_understood():
    found = parse_fault("rcpt=550 5.1.1 No such user to:*@a.example to:b@* from:<> first:2 every:3 after:4 chance:25%")

    assert found.action == Say(reply(550, "5.1.1", "No such user"))
    assert (found.recipients, found.reverse_paths) == (("b@*", "*@a.example"), ("<>",))
    assert (found.first, found.every, found.after, found.chance) == (2, 3, 4, 0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rcpt", "PHASE=ACTION"),
        ("recipient=550", "there is no phase 'recipient'; did you mean "),
        ("rctp=550", "did you mean rcpt?"),
        ("helo=550", "did you mean ehlo?"),
        ("zzz=550", "there is connect, greeting"),
        ("dot=", "what should happen at dot?"),
        ("dot=first:2", "what should happen at dot?"),
        ("dot=clsoe", "no action 'clsoe'; did you mean close?"),
        ("dot=hagn", "did you mean hang?"),
        ("dot=999 text", "999 is no reply code; those are 200 to 599"),
        ("dot=42", "42 is no reply code"),
        ("mail=close now", "close takes nothing behind it but conditions, not 'now' (close-after"),
        ("mail=hang 5", "hang takes nothing behind it"),
        ("mail=delay", "delay takes a number of seconds"),
        ("mail=delay soon", "delay takes a number of seconds"),
        ("mail=delay -1", "delay takes a number of seconds"),
        ("mail=delay 100000", "at most 86400"),
        ("mail=delay \u0661", "delay takes a number of seconds"),
        ("mail=garbage endles", "no garbage 'endles'; did you mean endless?"),
        ("mail=close-after bye", "a reply begins with its code"),
        ("connect=550", "a reply is not possible at connect: nothing is answered there"),
        ("connect=close-after", "not possible at connect"),
        ("content=garbage", "not possible at content"),
        ("content=452", "the answer to content is given at dot"),
        ("mail=550 to:a@example.com", "to: needs a recipient, and at mail none is known yet"),
        ("ehlo=550 from:a@example.com", "from: needs a reverse-path, and at ehlo none is known"),
        ("mail=550 frist:2", "there is no condition 'frist'; did you mean first?"),
        ("mail=550 first:0", "first: takes a whole number from 1 on, not '0'"),
        ("mail=550 every:1_0", "every: takes a whole number"),
        ("mail=550 first:1 first:2", "first: is given twice"),
        ("mail=550 chance:0", "chance: takes a share such as 0.1 or 10%, not '0'"),
        ("mail=550 chance:200%", "chance: takes a share"),
        ("mail=550 a\nb", "one line of printable text"),
    ],
)
def test_a_mistake_is_named(text, said):
    with pytest.raises(FaultError) as raised:
        parse_fault(text)

    assert said in str(raised.value)
    assert str(raised.value).startswith(repr(text))
