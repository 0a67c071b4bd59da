"""The schema of rules on replies: what an upstream's refusals mean. The descriptions are the manual."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PlainValidator, WithJsonSchema

from waypost.config.errors import WrongValueError
from waypost.config.fields import Duration, Section, StandIn, Text, Words, choice, listed, scalar_text
from waypost.config.values import line
from waypost.mail.outcome import Phase
from waypost.routing.failover import ANYWHERE, TRANSACTION
from waypost.routing.verdict import Kind, Phrase, ReplyRule, codes_of, enhanced_of, verdict

Meaning = Literal["quota", "transient", "permanent", "sender", "login", "unavailable"]

_KINDS: dict[Meaning, Kind] = {
    "quota": Kind.QUOTA,
    "transient": Kind.TRANSIENT,
    "permanent": Kind.PERMANENT,
    "sender": Kind.SENDER_REFUSED,
    "login": Kind.AUTH,
    "unavailable": Kind.SITE,
}
FINAL = frozenset[Meaning](("permanent", "sender"))
"""Those that end an attempt for good: only a 5yz says so."""
OF_THE_MESSAGE = FINAL | frozenset[Meaning](("transient",))
"""Those about one message, of which nothing is said before MAIL."""
PHASES = ("greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot")

_CODE = re.compile(r"[45](?:[0-9]{2}|yz)", re.ASCII)
_ENHANCED = re.compile(r"[45x]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
_LEAST = 3  # octets of a phrase without its asterisks: less is in nearly every text


def _code(text: str) -> str:
    if _CODE.fullmatch(text):
        return text
    if re.fullmatch(r"[123](?:[0-9]{2}|yz)", text, re.ASCII):
        raise WrongValueError(f"{text} is no refusal, and what it means is settled", "write codes like 550 or 4yz")
    raise WrongValueError(
        f"{text[:40]!r} is not a reply code of a refusal", "write it like 550, or 5yz for all of them"
    )


def _enhanced(text: str) -> str:
    if _ENHANCED.fullmatch(text):
        return text
    advice = "write it like 5.4.5, or x.7.28 for 4.7.28 and 5.7.28"
    raise WrongValueError(f"{text[:40]!r} is not an enhanced status code of a refusal", advice)


def _phrase(text: str) -> str:
    line(text)
    if len(text.replace("*", "").strip()) < _LEAST:
        raise WrongValueError(f"{text!r} is in nearly every reply", f"write at least {_LEAST} letters of it")
    return text


def _word(parse: Any, pattern: str | None, words: str) -> tuple[Any, Any, Any]:
    schema = {"type": "string"} if pattern is None else {"type": ["string", "integer"], "pattern": pattern}
    return PlainValidator(lambda value: parse(scalar_text(value))), WithJsonSchema(schema), Words(words)


CodeField = Annotated[str, *_word(_code, "^[45]([0-9]{2}|yz)$", "reply code")]
EnhancedField = Annotated[str, *_word(_enhanced, r"^[45x]\.[0-9]{1,3}\.[0-9]{1,3}$", "enhanced status code")]
PhraseField = Annotated[str, *_word(_phrase, None, "phrase")]
PhaseField = Annotated[str, *choice(*PHASES)]
MeaningField = Annotated[Meaning, *choice(*get_args(Meaning))]


class ReplySection(Section):
    """What some refusals of an upstream mean. All that is given must match; the first rule that matches decides."""

    means: Annotated[MeaningField, StandIn("unavailable")] = Field(
        description="`quota`: our account has sent its share, so the upstream sleeps and the next one takes over; "
        "`transient`: not now, so the next one is tried, or this one later; `permanent`: never, by nobody; `sender`: "
        "not from this sender here, so the next one is tried; `login`: our account does not work, so the upstream is "
        "left alone, and somebody has to look; `unavailable`: it cannot be used now, which counts as a failure of its "
        "health."
    )
    code: Annotated[tuple[CodeField, ...], listed("reply code")] = Field(
        (), description="Reply codes: `550`, or `5yz` for all of them. `permanent` and `sender` are for 5yz."
    )
    enhanced: Annotated[tuple[EnhancedField, ...], listed("enhanced status code")] = Field(
        (), description="Enhanced status codes: `5.4.5`, or `x.7.28` for both 4.7.28 and 5.7.28."
    )
    text: Annotated[tuple[PhraseField, ...], listed("phrase")] = Field(
        (),
        description="What the text has in it, `*` standing for anything between, in small or capital letters: "
        "`daily*limit`. Of several, one is enough.",
    )
    phase: Annotated[tuple[PhaseField, ...], listed("phase")] = Field(
        (),
        description="What it is the answer to; `dot` is the end of content. Not set: anything, or for `transient`, "
        "`permanent` and `sender` anything from MAIL on.",
    )
    sleep: Duration | None = Field(
        None, description="For `quota`: how long the upstream sleeps when its reply does not say. Not set: 15 minutes."
    )
    name: Text | None = Field(
        None, description="What log and journal call the rule. Not set: its place, like `replies[0]`."
    )

    def rule(self, place: str) -> ReplyRule:
        """For everybody else. `place` is its name when it has none."""
        kind = _KINDS[self.means]
        phases = frozenset(map(Phase, self.phase)) or (TRANSACTION if self.means in OF_THE_MESSAGE else ANYWHERE)
        codes = self.code or (("5yz",) if self.means in FINAL else ("4yz", "5yz"))
        return ReplyRule(
            verdict(kind, self.name or place, self.sleep),
            phases,
            codes_of(" ".join(codes)),
            enhanced_of(" ".join(self.enhanced)),
            None,
            tuple(map(_pieces, self.text)),
        )


def _pieces(phrase: str) -> Phrase:
    return tuple(piece for piece in phrase.lower().split("*") if piece)
