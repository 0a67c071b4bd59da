"""The client engine against the server engine, over a wire that cuts octets anywhere."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from smtp.examples import clean_content, examples
from smtp.serving import OPTIONS, Arrived, Question, Serving, accept, cut
from smtp.test_parameters import mail_parameters, rcpt_parameters
from waypost.smtp import commands as c
from waypost.smtp.address import NULL, Address, parse_mailbox
from waypost.smtp.client import ClientEngine, Extensions
from waypost.smtp.content import Stuffer
from waypost.smtp.order import ServerOptions
from waypost.smtp.parameters import NO_RCPT_PARAMETERS
from waypost.smtp.reply import Reply, reply
from waypost.smtp.state import State

REFUSED = parse_mailbox("refused@example.org")
UNKNOWN = reply(550, "5.1.1", "No such mailbox")
FULL = reply(452, "4.2.2", "The mailbox is full")


def decide(question: Question) -> Reply:
    match question:
        case c.Rcpt(address) if address == REFUSED:
            return UNKNOWN
        case _:
            return accept(question)


def verdict(recipient: Address) -> Reply | None:
    """What becomes of content for one recipient, where that is heard."""
    return FULL if recipient.local == "x" * 80 else None


class Pair:
    """Two engines and the wire between them; `places` says where it cuts what passes."""

    def __init__(self, options: ServerOptions, places: list[int]) -> None:
        self.serving = Serving(options, decide, greeting=None, each=verdict)
        self.client = ClientEngine()
        self._places = places
        self.back(self.serving.greet())

    def back(self, octets: bytes) -> list[Reply]:
        """The server's octets to the client; the replies, whose commands have come in order."""
        pairs = [pair for piece in cut(octets, self._places) for pair in self.client.receive(piece)]
        return [answer for _, answer in pairs]

    def say(self, *commands: c.Command, behind: bytes = b"") -> list[Reply]:
        """Commands, and octets behind them, to the server; its replies."""
        answers = self.back(self.serving.feed(*cut(self.client.send(*commands) + behind, self._places)))
        assert self.client.is_idle
        # Both sides see the same replies, so both are in the same state.
        assert self.client.state is self.serving.engine.state
        return answers

    def say_each(self, *commands: c.Command) -> list[Reply]:
        """The same, waiting for each answer."""
        return [answer for command in commands for answer in self.say(command)]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one client wants to send, and how."""

    mail: c.Mail
    recipients: tuple[c.Rcpt, ...]
    content: bytes
    chunks: list[int] | None  # where to cut for BDAT; None for DATA
    grouped: bool
    ending: str  # sent, reset, or hello and lhlo: EHLO or LHLO in the middle


mailboxes = st.sampled_from(["a@example.com", '"q u"@example.org', "b@[192.0.2.1]", "x" * 80 + "@example.com"])
addresses = mailboxes.map(parse_mailbox)
foreign = st.sampled_from(["ü@example.com", "a@bücher.example"]).map(parse_mailbox)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    parameters = replace(draw(mail_parameters), size=None)
    some = addresses | foreign if parameters.smtputf8 else addresses
    paths = draw(st.lists(some | st.just(REFUSED), min_size=1, max_size=4))
    return Transaction(
        c.Mail(draw(some | st.just(NULL)), parameters),
        tuple(c.Rcpt(path, draw(rcpt_parameters | st.just(NO_RCPT_PARAMETERS))) for path in paths),
        draw(clean_content),
        draw(st.none() | st.lists(st.integers(0, 40), max_size=5)),
        draw(st.booleans()),
        draw(st.sampled_from(["sent", "sent", "sent", "reset", "hello"])),
    )


AGAIN = {"reset": c.Rset(), "hello": c.Ehlo("again.example"), "lhlo": c.Lhlo("again.example")}
ACCEPTED = reply(250, "2.0.0", "Accepted")


def perform(pair: Pair, wanted: Transaction) -> Arrived | None:
    """Carries a transaction out; what should have arrived."""
    say = pair.say if wanted.grouped else pair.say_each
    first, *rest = say(wanted.mail, *wanted.recipients)
    assert first.code == 250
    accepted = tuple(rcpt.forward_path for rcpt in wanted.recipients if rcpt.forward_path != REFUSED)
    assert [answer.is_positive for answer in rest] == [rcpt.forward_path != REFUSED for rcpt in wanted.recipients]
    assert all(answer == UNKNOWN for answer in rest if not answer.is_positive)
    if wanted.ending != "sent":
        pair.say(AGAIN[wanted.ending])
        return None
    if not accepted:
        nobody = 503 if pair.serving.engine.options.lmtp else 554
        assert [answer.code for answer in pair.say(c.Data())] == [nobody]
        pair.say(c.Rset())
        return None
    content = wanted.content
    if wanted.chunks is None:
        content += b"" if content.endswith(b"\r\n") or not content else b"\r\n"
        assert [answer.code for answer in pair.say(c.Data())] == [354]
        answers = pair.back(pair.serving.feed(*cut(Stuffer().stuff(content), [3, 7, 8])))
        assert answers == []
        answers = pair.say(c.EndOfContent())
    else:
        *chunks, last = cut(content, wanted.chunks) or [b""]
        answers = []
        for chunk in chunks:
            answers += pair.say(c.Bdat(len(chunk)), behind=chunk)
        answers += pair.say(c.Bdat(len(last), last=True), behind=last)
    *others, outcome = answers
    assert all(answer.code == 250 for answer in others)
    verdicts = pair.client.verdicts
    told = [] if verdicts is None else [*verdicts.completed(outcome)]
    if pair.serving.engine.options.lmtp or (wanted.mail.parameters.prdr and told):
        assert told == [verdict(path) or ACCEPTED for path in accepted]
        took = tuple(path for path in accepted if verdict(path) is None)
    elif wanted.mail.parameters.prdr:  # one answer for all
        took = accepted if outcome == ACCEPTED else ()
        assert all((verdict(path) or ACCEPTED) == outcome for path in accepted)
    else:
        assert outcome == ACCEPTED
        took = accepted
    return Arrived(wanted.mail.reverse_path, took, content) if took else None


@examples(150)
@given(st.lists(transactions(), min_size=1, max_size=4), st.lists(st.integers(0, 300), max_size=10), st.booleans())
def test_everything_arrives_as_it_was_sent(wanted: list[Transaction], places: list[int], repair: bool) -> None:
    pair = Pair(replace(OPTIONS, repair_line_ends=repair), places)
    pair.say(c.Ehlo("client.example"))
    all_arrives(pair, wanted)


@examples(100)
@given(st.lists(transactions(), min_size=1, max_size=4), st.lists(st.integers(0, 300), max_size=10))
def test_everything_arrives_by_lmtp_too(wanted: list[Transaction], places: list[int]) -> None:
    pair = Pair(replace(OPTIONS, lmtp=True), places)
    pair.say(c.Lhlo("client.example"))
    all_arrives(pair, [without_prdr(each) for each in wanted])


def without_prdr(wanted: Transaction) -> Transaction:
    mail = wanted.mail
    mail = c.Mail(mail.reverse_path, replace(mail.parameters, prdr=False))
    return replace(wanted, mail=mail, ending="lhlo" if wanted.ending == "hello" else wanted.ending)


def all_arrives(pair: Pair, wanted: list[Transaction]) -> None:
    assert pair.client.extensions.pipelining
    arrived = [perform(pair, each) for each in wanted]
    assert pair.serving.messages == [each for each in arrived if each is not None]
    heard = [each for each in pair.serving.trace if isinstance(each, (c.Mail, c.Rcpt))]
    assert heard == [command for each in wanted for command in (each.mail, *each.recipients)]
    assert [answer.code for answer in pair.say(c.Quit())] == [221]
    assert pair.client.state is State.CLOSED


def test_the_client_understands_what_the_server_offers() -> None:
    options = ServerOptions("mx.example.org", max_size=12345, starttls=True, auth=True, allow_plaintext_auth=True)
    pair = Pair(options, [])
    pair.say(c.Ehlo("client.example"))
    found = pair.client.extensions
    assert (found.pipelining, found.eightbitmime, found.smtputf8, found.chunking, found.dsn) == (True,) * 5
    assert (found.starttls, found.enhanced_codes, found.size, found.auth) == (True, True, 12345, ("PLAIN", "LOGIN"))
    assert [answer.code for answer in pair.say(c.StartTls())] == [220]
    pair.client.tls_started()
    pair.serving.engine.tls_started()
    assert pair.client.state is pair.serving.engine.state is State.GREETED
    pair.say(c.Ehlo("client.example"))
    assert not pair.client.extensions.starttls
    (challenge,) = pair.say(c.Auth("LOGIN"))
    assert (challenge.code, challenge.text) == (334, "VXNlcm5hbWU6")
    pair.say(c.AuthResponse("YW5u"))
    assert [answer.code for answer in pair.say(c.AuthResponse("c2VjcmV0"))] == [235]
    pair.say(c.Ehlo("client.example"))
    assert pair.client.extensions.auth == ()


def test_what_the_server_does_not_offer_the_client_does_not_see() -> None:
    bare = ServerOptions(
        "mx", pipelining=False, eightbitmime=False, smtputf8=False, chunking=False, dsn=False, prdr=False
    )
    pair = Pair(bare, [])
    pair.say(c.Ehlo("client.example"))
    found = pair.client.extensions
    assert found == Extensions(size=bare.max_size, enhanced_codes=True)
    (answer,) = pair.say(c.Helo("client.example"))
    assert answer.code == 250
    assert not pair.client.extensions.enhanced_codes
