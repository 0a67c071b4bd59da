"""The types that the schema is written in: each knows how its text is read, printed, and described to editors."""

from collections.abc import Callable
from datetime import date, tzinfo
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from waypost.config import database, endpoints, values
from waypost.config.errors import WrongValueError, nearest
from waypost.routing.route import Network as NetworkValue
from waypost.smtp.address import Address
from waypost.smtp.sasl import Secret

T = TypeVar("T")

MASK = "********"


class Section(BaseModel):
    """A mapping of settings. Unknown keys are refused; a key without a value counts as absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


class Words:
    """A type's name for people, for the manual: "duration", "host:port"."""

    def __init__(self, text: str) -> None:
        self.text = text


class StandIn:
    """What takes the place of a required value that is wrong or missing, so that the rest can still be checked."""

    def __init__(self, text: str) -> None:
        self.text = text


class Short:
    """A shorter way to write a mapping or list.

    `expand` makes the long form, `schema` describes the short one to editors and `words` to people. `keys` are the
    settings of the long form that it decides; without any it decides all.
    """

    def __init__(
        self, expand: Callable[[Any], Any], schema: dict[str, Any], words: str, keys: tuple[str, ...] = ()
    ) -> None:
        self.expand = expand
        self.schema = schema
        self.words = words
        self.keys = keys

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        inner: CoreSchema = handler(source)
        return BeforeValidator(self.expand).__get_pydantic_core_schema__(source, lambda _: inner)  # type: ignore[arg-type]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [self.schema, handler(core)]}


def scalar_text(value: Any) -> str:
    """The text of one scalar. Raises `WrongValueError` for lists and mappings."""
    if not isinstance(value, str):
        raise WrongValueError("must be one value, not a list, a mapping or nothing")
    return value


def _read(parse: Callable[[str], T]) -> PlainValidator:
    return PlainValidator(lambda value: parse(scalar_text(value)))


def _write(render: Callable[[Any], Any]) -> PlainSerializer:
    return PlainSerializer(render, when_used="json")


def one_of(*choices: str) -> PlainValidator:
    """One of a few words."""

    def parse(text: str) -> str:
        if text in choices:
            return text
        raise WrongValueError(f"{text[:40]!r} is not one of {', '.join(choices)}", nearest(text, choices))

    return _read(parse)


def choice(*words: str) -> tuple[Any, Any, Any]:
    """One of a few words, for the schema and the manual as well."""
    schema = WithJsonSchema({"type": "string", "enum": list(words)})
    return one_of(*words), schema, Words(" or ".join(f"`{word}`" for word in words))


_STRING = {"type": "string"}


def single(
    parse: Callable[[str], Any], render: Callable[[Any], Any], words: str, schema: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    """One value: how its text is read and printed, what it is called, and what editors hold it against."""
    schema = schema or _STRING
    return _read(parse), _write(render), WithJsonSchema(schema), Words(words)


Text = Annotated[str, _read(values.line), WithJsonSchema(_STRING), Words("text")]
File = Annotated[str, _read(values.line), WithJsonSchema(_STRING), Words("path of a file")]
Folder = Annotated[str, _read(values.folder), WithJsonSchema(_STRING), Words("path of a folder")]
Name = Annotated[str, BeforeValidator(lambda value: values.name(scalar_text(value)))]
AccountName = Annotated[str, BeforeValidator(lambda value: values.line(scalar_text(value)))]
Reference = Annotated[str, _read(values.line), WithJsonSchema(_STRING), Words("name")]
HostName = Annotated[str, _read(values.host_name), WithJsonSchema(_STRING), Words("host name")]
Flag = Annotated[bool, _read(values.truth), WithJsonSchema({"type": "boolean"}), Words("true or false")]
Count = Annotated[int, _read(values.count), WithJsonSchema({"type": "integer", "minimum": 1}), Words("number")]
Duration = Annotated[
    float,
    _read(values.duration),
    _write(values.duration_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": "^[0-9.]+ *(ms|s|m|h|d)?$"},
            ]
        }
    ),
    Words("duration"),
]
DurationOrOff = Annotated[
    float,
    _read(values.duration_or_off),
    _write(values.duration_or_off_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^([0-9.]+ *(ms|s|m|h|d)?|off)$"},
                {"const": False},
            ]
        }
    ),
    Words("duration or `off`"),
]
Rate = Annotated[
    float,
    _read(values.rate),
    _write(values.rate_text),
    WithJsonSchema({"type": "string", "pattern": "^[0-9.]+ */ *(second|minute|hour)$"}),
    Words("rate"),
]
Cost = Annotated[float, _read(values.cost), WithJsonSchema({"type": "number", "minimum": 0}), Words("number")]
Day = Annotated[
    date, _read(values.day), _write(str), WithJsonSchema({"type": "string", "format": "date"}), Words("date")
]
TimeZone = Annotated[tzinfo, _read(values.time_zone), _write(str), WithJsonSchema(_STRING), Words("time zone")]
Allowed = Annotated[
    tuple[int, int],
    _read(values.allowance),
    _write(values.allowance_text),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+ */ *(second|minute|hour|day)$"}),
    Words("limit"),
]
CertificateName = Annotated[str, _read(values.certificate), WithJsonSchema(_STRING), Words("certificate")]
Size = Annotated[
    int,
    _read(values.size),
    _write(values.size_text),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9.]+ *[A-Za-z]*$"}]}
    ),
    Words("size"),
]
_SHARE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "^[0-9.]+ *%?$"}]
}
Share = Annotated[float, _read(values.share), _write(values.share_text), WithJsonSchema(_SHARE_SCHEMA), Words("share")]
Spread = Annotated[
    float, _read(values.spread), _write(values.share_text), WithJsonSchema(_SHARE_SCHEMA), Words("share")
]
BoundAddress = Annotated[
    endpoints.Endpoint,
    _read(endpoints.bound_address),
    _write(str),
    WithJsonSchema(_STRING),
    Words("host:port or `unix:/path`"),
]
TcpAddress = Annotated[
    endpoints.Endpoint, _read(endpoints.tcp_address), _write(str), WithJsonSchema(_STRING), Words("host:port")
]
Permissions = Annotated[
    int,
    _read(values.permissions),
    _write(values.permissions_text),
    WithJsonSchema({"type": "string", "pattern": "^0?[0-7]{3}$"}),
    Words("octal number"),
]
UpstreamAddress = Annotated[
    endpoints.Endpoint,
    _read(endpoints.upstream_address),
    _write(str),
    WithJsonSchema(_STRING),
    Words("host:port or `unix:/path`"),
]
Network = Annotated[NetworkValue, _read(values.network), _write(str), WithJsonSchema(_STRING), Words("network")]
Peers = Annotated[
    NetworkValue | str, _read(values.peers), _write(str), WithJsonSchema(_STRING), Words("network or `trusted`")
]
Glob = Annotated[str, _read(values.glob), WithJsonSchema(_STRING), Words("pattern")]
AddressGlob = Annotated[str, _read(values.address_glob), WithJsonSchema(_STRING), Words("address pattern")]
Fingerprint = Annotated[str, _read(values.fingerprint), WithJsonSchema(_STRING), Words("SHA-256 fingerprint")]
Mailbox = Annotated[Address, _read(values.mailbox), _write(str), WithJsonSchema(_STRING), Words("mail address")]
Password = Annotated[
    Secret,
    _read(lambda text: Secret(values.line(text))),
    PlainSerializer(lambda _: MASK, when_used="json"),
    WithJsonSchema(_STRING),
    Words("secret"),
]
DatabaseUrl = Annotated[
    Secret,
    _read(database.database_url),
    PlainSerializer(lambda url: database.masked(url.reveal(), MASK), when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^postgres(ql)?://"}),
    Words("secret"),
]


def or_one(value: Any) -> Any:
    """One value where a list is expected stands for a list of that value."""
    return [value] if isinstance(value, str) else value


def one_word(key: str, words: str, *choices: str) -> Short:
    """A word that stands for a mapping with the one setting `key`."""
    schema: dict[str, Any] = {"type": "string", "enum": list(choices)} if choices else _STRING
    return Short(lambda value: {key: value} if isinstance(value, str) else value, schema, words, (key,))


def listed(words: str) -> Short:
    """A list whose single item needs no brackets."""
    return Short(or_one, _STRING, words)


def peers() -> Short:
    """A list of peers: `true` stands for those in the trusted networks, `false` for none."""

    def expand(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return [values.TRUSTED] if values.truth(value) else []
            except WrongValueError:
                pass
        return or_one(value)

    return Short(expand, {"type": ["string", "boolean"]}, "true or network")


def count_of(least: int, most: int) -> tuple[Any, ...]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        try:
            number = values.count(text)
        except WrongValueError:
            number = 0
        if not least <= number <= most:
            raise WrongValueError(f"must be a whole number from {least} to {most}")
        return number

    return _read(parse), WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


def scalar(parse: Callable[[str], Any], render: Callable[[Any], Any] | None = None) -> tuple[Any, ...]:
    """A value that only one section has, read by `parse` and printed by `render`."""
    schema = WithJsonSchema(_STRING)
    return (_read(parse), schema) if render is None else (_read(parse), _write(render), schema)


def free_text(make: Callable[[str], Any] = str) -> tuple[Any, ...]:
    """Text that may be empty."""
    return _read(lambda text: make(values.line(text) if text else text)), WithJsonSchema(_STRING)
