"""The base of the API's records, and the types of their fields: frozen values that no odd answer can break.

Unknown fields are dropped, null means absent, invalid values become the default. No record is refused for one field: a task
that costs money must not be lost because of its `rating`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from inferencesh_mcp.api.enums import is_media_type, log_type_word, plain_word, status_word
from inferencesh_mcp.api.json import as_object, encodable, is_array, is_object, items, texts, unpacked
from inferencesh_mcp.errors import UpstreamError
from inferencesh_mcp.sanitize import address, clean, name, token

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

MAX_LABEL_LENGTH = 500
"""Characters of a label. The platform's longest ones are file names, of 255."""
MAX_WORDS = 1_000
"""Words of one list, such as the scopes of a key."""
# Printable ASCII without spaces, quotes, backslashes and angle brackets.
_CURSOR = re.compile(r"[!#-;=?-\[\]-~]{0,4000}")


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    return json.dumps(value) if is_object(value) or is_array(value) else str(value)


def _line(text: str) -> str:
    return clean(text, MAX_LABEL_LENGTH)


def _cursor(text: str) -> str:
    return text if _CURSOR.fullmatch(text) else ""


def _media_type(text: str) -> str:
    return text if is_media_type(text) else ""


def _whole(value: Any) -> Any:
    """An integer of at most 64 bits, else None."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**63 else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and abs(value) < 1e300 else 0.0


def _flag(value: Any) -> bool:
    return value in (1, "true")  # True is 1; not a set, in which a list cannot be looked for


def _moment(value: Any) -> Any:
    """A time in RFC 3339, in UTC; one without a zone is in UTC. None for anything else, and for Go's zero time."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):  # the last hour of the year 9999 may be no hour in UTC
        return None
    return moment if moment.year > 1 else None


def _objects(value: Any) -> Any:
    """The objects in an array. A tuple was parsed before and is kept, as are its values."""
    if _is_parsed(value):
        return value
    return [item for item in items(value) if is_object(item) or isinstance(item, BaseModel)]


def _named_objects(value: Any) -> Any:
    return {key: item for key, item in as_object(value).items() if is_object(item)}


def _object_or_none(value: Any) -> Any:
    return value if is_object(value) or isinstance(value, BaseModel) else None


def _object_or_empty(value: Any) -> Any:
    return _object_or_none(value) or {}


def _words(value: Any) -> Any:
    return value if _is_parsed(value) else texts(items(value)[:MAX_WORDS])


def at_most(limit: int) -> BeforeValidator:
    """Keep the first entries of an array. The others are not even read."""
    return BeforeValidator(lambda value: value[:limit] if is_array(value) else value)


def _is_parsed(value: Any) -> bool:
    return isinstance(value, tuple)


T = TypeVar("T")
Text = Annotated[str, BeforeValidator(_text)]
Line = Annotated[Text, AfterValidator(_line)]
"""A label, such as a title or a category, as one line: our answers put it inside lines of their own."""
Id = Annotated[Text, AfterValidator(token)]
"""An id as one word: our answers put it inside calls that a model should make."""
Name = Annotated[Text, AfterValidator(name)]
"""A namespace, or the name of an app or an agent."""
Word = Annotated[str, BeforeValidator(plain_word)]
Address = Annotated[Text, AfterValidator(address)]
"""A URL; characters that are not allowed in one are encoded."""
Cursor = Annotated[Text, AfterValidator(_cursor)]
"""It is passed back unchanged; one that could not be quoted in a call is dropped."""
MediaType = Annotated[Text, AfterValidator(_media_type)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Object = Annotated[dict[str, Any], BeforeValidator(as_object)]
Amounts = Annotated[dict[str, Whole], BeforeValidator(as_object)]
PackedObject = Annotated[Object, BeforeValidator(unpacked)]
"""An object that may arrive as a JSON string."""
Number = Annotated[float, BeforeValidator(_number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Words = Annotated[tuple[Line, ...], BeforeValidator(_words)]
Status = Annotated[str, BeforeValidator(status_word)]
LogType = Annotated[str, BeforeValidator(log_type_word)]
Many = Annotated[tuple[T, ...], BeforeValidator(_objects)]
Named = Annotated[dict[Line, T], BeforeValidator(_named_objects)]
One = Annotated[T | None, BeforeValidator(_object_or_none)]
OrEmpty = Annotated[T, BeforeValidator(_object_or_empty)]


class Wire(BaseModel):
    """Base of all records. Schemas are built at first use, because most processes need few of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if is_object(data) else data


M = TypeVar("M", bound=Wire)


def updated(known: M, update: M, names: AbstractSet[str]) -> M:
    """The known record with the update's fields of these names; names that are no field are ignored."""
    return known.model_copy(update={name: getattr(update, name) for name in names & type(update).model_fields.keys()})


def parsed(model: type[M], value: Any) -> M:
    """Validate a value as a model. The UpstreamError for anything else does not quote the value."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        name = model.__name__.partition("[")[0].lower()
        raise UpstreamError(message=f"inference.sh answered with something that is not a {name}") from exc
