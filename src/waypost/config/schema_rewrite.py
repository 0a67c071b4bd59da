"""The schema of rewriting and signing. The descriptions are the manual."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from waypost.config import rewriting
from waypost.config.fields import (
    File,
    Flag,
    Section,
    Short,
    StandIn,
    Words,
    choice,
    listed,
    one_word,
    scalar,
    scalar_text,
)
from waypost.mail.dkim import DEFAULT_HEADERS
from waypost.smtp.address import Address

_STRING: dict[str, Any] = {"type": "string"}


def _key(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(scalar_text(value)))


NewAddress = Annotated[Address, *scalar(rewriting.new_address, str), Words("mail address")]
MappedAddresses = Annotated[
    dict[Annotated[str, _key(rewriting.mapped_pattern)], NewAddress],
    Short(
        lambda value: {"*": value} if isinstance(value, str) else value,
        _STRING,
        "mail address, or mapping of patterns to mail addresses",
    ),
]


class RewriteSection(Section):
    """What is rewritten in mail that comes from submission listeners."""

    from_: MappedAddresses = Field(
        {},
        alias="from",
        description="The address that replaces the author's in the From field; the display name stays. Or a mapping "
        'of patterns to new addresses, of which the first that matches decides: `{"*@old.example": "*@new.example"}` '
        "changes the domain only. A Sender field follows it, and so does the reverse-path, unless `sender` and "
        "`envelope` say otherwise.",
    )
    envelope: MappedAddresses | None = Field(
        None,
        description="The same for the reverse-path. Not set: as `from`. Its domain must be that of `from`, or one "
        "below or above it. The null reverse-path is never rewritten.",
    )
    sender: MappedAddresses | None = Field(
        None,
        description="The same for the Sender field. One address is also put where there is no Sender; nothing is "
        "where it would only repeat From. Not set: as `from`, where there is a Sender.",
    )
    reply_to: Annotated[Literal["original", "none"], *choice("original", "none")] = Field(
        "original",
        description="What becomes of the original From: `original` puts it into Reply-To, unless the message has one; "
        "`none` drops it.",
    )
    add: dict[
        Annotated[str, _key(rewriting.added_name)],
        Annotated[str, *scalar(rewriting.added_text), Words("text")],
    ] = Field(
        {},
        description="Header fields to add, name and text. Those that a message has only once (Reply-To, Subject, To "
        "and the like) are added where they are missing, or have been removed.",
    )
    remove: Annotated[
        tuple[Annotated[str, *scalar(rewriting.removed_name), Words("header field")], ...], listed("header field")
    ] = Field((), description="Header fields to remove, by name; `*` stands for any text: `X-Internal-*`.")


Rewriting = Annotated[RewriteSection, one_word("from", "mail address")]

Canonicalization = Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]


class DkimSection(Section):
    """A key with which mail of the authors of a domain is signed."""

    domain: Annotated[str, *scalar(rewriting.domain), Words("domain"), StandIn("unknown.invalid")] = Field(
        description="The domain of the address in From, after rewriting. A domain may have several keys, an RSA and an "
        "Ed25519 one: then each makes a signature."
    )
    selector: Annotated[str, *scalar(rewriting.selector), Words("selector"), StandIn("unknown")] = Field(
        description="The name under which the public key is in DNS: `s1` for `s1._domainkey.example.com`."
    )
    key_file: Annotated[File, StandIn("unknown")] = Field(
        description="PEM file with the private key, RSA (2048 bits) or Ed25519, without a password. It is read at the "
        "start."
    )
    subdomains: Flag = Field(
        False, description="Whether authors in domains below are signed for, too, unless those have keys of their own."
    )
    headers: Annotated[
        tuple[Annotated[str, *scalar(rewriting.signed_name), Words("header field")], ...], listed("header field")
    ] = Field(
        DEFAULT_HEADERS,
        description="The header fields that are signed where they are present. From, To and Subject, if listed, are "
        "signed once more than they are there, so that nobody can add another.",
    )
    canonicalization: Annotated[
        Canonicalization, *choice("relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple")
    ] = Field(
        "relaxed/relaxed",
        description="How much white space may change on the way, in header and body: `relaxed` bears that, `simple` "
        "bears nothing.",
    )
