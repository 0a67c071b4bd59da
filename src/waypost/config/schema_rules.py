"""The schema of rules and their conditions. The descriptions are the manual."""

from datetime import UTC
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from waypost.config import rule_values
from waypost.config.fields import (
    AddressGlob,
    File,
    Glob,
    Network,
    Reference,
    Section,
    StandIn,
    Text,
    TimeZone,
    choice,
    listed,
    scalar_text,
    single,
)
from waypost.config.fields import Short as ShortForm
from waypost.routing.condition import ShareBy, SizeRange
from waypost.routing.hours import ALL_DAYS, DAY, Hours

ShareByField = Annotated[ShareBy, *choice(*get_args(ShareBy))]
SizeRangeField = Annotated[
    SizeRange,
    *single(
        rule_values.size_range,
        rule_values.size_range_text,
        "range of sizes",
        {"type": "string", "pattern": "^([Oo]ver|[Uu]nder) "},
    ),
]
DaysField = Annotated[frozenset[int], *single(rule_values.days, rule_values.days_or_all_text, "days of the week")]
SpanField = Annotated[
    rule_values.Span,
    *single(
        rule_values.span,
        rule_values.span_text,
        "times of day",
        {"type": "string", "pattern": "^[0-9]+:[0-9]+ *- *[0-9]+:[0-9]+$"},
    ),
]
_PERCENT: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 100}, {"type": "string", "pattern": "^[0-9.]+ *%?$"}]
}
PercentField = Annotated[float, *single(rule_values.percent, rule_values.percent_text, "percentage", _PERCENT)]
FieldName = Annotated[str, BeforeValidator(lambda value: rule_values.field_name(scalar_text(value)))]


class HoursSection(Section):
    """A window of time."""

    days: DaysField | None = Field(
        None,
        description="Days of the week: `mon-fri`, `sat,sun`. Over midnight it is the day on which it begins. Not set: "
        "every day.",
    )
    hours: SpanField | None = Field(
        None,
        description="From a time of day until before another: `08:00-18:00`; over midnight: `22:00-06:00`. Not set: "
        "the whole day.",
    )
    time_zone: TimeZone | None = Field(
        None, description="Whose clocks: a name like `Europe/Berlin`. They know daylight saving time. Not set: UTC."
    )

    @property
    def value(self) -> Hours:
        """For everybody else."""
        return Hours(self.time_zone or UTC, self.days or ALL_DAYS, *(self.hours or (0, DAY)))


class PercentSection(Section):
    """A share of the traffic, always the same for the same key."""

    value: Annotated[PercentField, StandIn("50")] = Field(description="From 0 to 100.")
    by: ShareByField = Field(
        "recipient",
        description="What it goes by: the same `recipient`, `sender` (the reverse-path), `account` or `client` (its "
        "address) always falls on the same side. `message` is by chance for each message.",
    )
    salt: Text | None = Field(
        None,
        description="Two shares with the same salt have the same members, as far as the smaller one goes; with others "
        "they are independent. Not set: the rule's `name`, else its `route`.",
    )


class ConditionSection(Section):
    """Conditions. All that are given must match."""

    listener: Annotated[tuple[Reference, ...], listed("address of a listener")] = Field(
        (), description="The listener that the client came to, by its address as written above."
    )
    account: Annotated[tuple[Glob, ...], listed("pattern")] = Field(
        (), description="The account that the client authenticated as."
    )
    client_network: Annotated[tuple[Network, ...], listed("network")] = Field(
        (), description="The network that the client's address is in."
    )
    helo: Annotated[tuple[Glob, ...], listed("pattern")] = Field(
        (), description="The name that the client gave in EHLO or HELO. It is the client's word and nothing more."
    )
    reverse_path: Annotated[tuple[AddressGlob, ...], listed("address pattern")] = Field(
        (), description="The address of MAIL FROM; `<>` is the null one."
    )
    reverse_path_file: Annotated[tuple[File, ...], listed("path of a file")] = Field(
        (), description="Files with addresses and domains, one a line; the address of MAIL FROM is in one of them."
    )
    recipient: Annotated[tuple[AddressGlob, ...], listed("address pattern")] = Field(
        (), description="The address of RCPT TO."
    )
    recipient_file: Annotated[tuple[File, ...], listed("path of a file")] = Field(
        (),
        description="Files with addresses and domains, one a line (`example.com`, `*.example.com`, `bob@example.com`, "
        "`# comment`); the address of RCPT TO is in one of them. They are read again when they change.",
    )
    time: Annotated[
        tuple[Annotated[HoursSection, ShortForm(rule_values.hours_parts, {"type": "string"}, "window")], ...],
        listed("window"),
    ] = Field(
        (),
        description="When the message was begun: `mon-fri 08:00-18:00 Europe/Berlin`, or mappings. One of several "
        "windows is enough.",
    )
    percent: (
        Annotated[PercentSection, ShortForm(rule_values.percent_parts, _PERCENT, "percentage", ("value",))] | None
    ) = Field(None, description="A share of the traffic: `10`, or a mapping.")
    size: SizeRangeField | None = Field(
        None,
        description="The octets of the content, as they come: `over 5MB`, `under 10KB`, `over 1MB and under 5MB`. What "
        "the client declares decides nothing, so the recipient is routed when the content is there.",
    )
    header: dict[FieldName, Annotated[tuple[Glob, ...], listed("mapping of names of fields to patterns")]] = Field(
        {},
        description='Header fields by name, and patterns for the whole of a value: `{Subject: "*invoice*"}`. Folds '
        "are undone and encoded words decoded. Of a field that is there several times, one value is enough; `*` asks "
        "whether it is there. The recipient is routed when the content is there.",
    )
    all: tuple["ConditionSection", ...] = Field(
        (), description="Conditions that must all match. Each is a mapping of these settings."
    )
    any: tuple["ConditionSection", ...] = Field((), description="Conditions of which one must match.")
    not_: "ConditionSection | None" = Field(None, alias="not", description="Conditions that must not match together.")


class RuleSection(ConditionSection):
    """A condition and the route it leads to. All that is given must match; the first rule that matches decides."""

    name: Text | None = Field(None, description="What the rule is called in the log and by `waypost explain`.")
    route: Annotated[Reference, StandIn("unknown")] = Field(description="The route to take.")


def conditions_of(section: ConditionSection) -> dict[str, Any]:
    """The settings that are given, by their names in the file; without the rule's own."""
    given = {field.alias or name: getattr(section, name) for name, field in ConditionSection.model_fields.items()}
    return {name: value for name, value in given.items() if value not in ((), {}, None)}
