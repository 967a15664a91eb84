"""The types that all resources share: metadata, conditions, and the base classes of the API types."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

RULES_KEY = "x-rules"
"""Key in the JSON schema of a type. Its value is a list of CEL rules for the type, in the format of
``x-kubernetes-validations``."""


class ApiModel(BaseModel):
    """Base class of the parts of a spec: camelCase in JSON, unknown fields are refused, immutable after
    parsing."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form for Kubernetes and files: in camelCase, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """Base class of the parts of a status. Unknown fields are dropped, so that an older release can read a
    newer status."""

    model_config = ConfigDict(extra="ignore")


def _decimal_text(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise PydanticCustomError(
            "decimal_string",
            'must be a quoted string, so that no digit is lost: write "{value}"',
            {"value": value},
        )
    return value


_Item = TypeVar("_Item")

Listed = Annotated[list[_Item], Field(fail_fast=True)]
"""A list whose validation ends at the first invalid item, so that an invalid list takes no longer to validate
than a valid one. For input that is not trusted."""

MAX_ENTRIES = 512
"""Maximum number of entries of a :data:`Mapped`."""


def _few_entries(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_ENTRIES:
        raise PydanticCustomError(
            "too_many_entries",
            "must have at most {most} entries, not {found}",
            {"most": MAX_ENTRIES, "found": len(value)},
        )
    return value


Mapped = Annotated[dict[str, _Item], BeforeValidator(_few_entries)]
"""A mapping with at most ``MAX_ENTRIES`` entries. This also limits the number of validation errors, because
every invalid entry is reported."""

DECIMAL_PATTERN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"

Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), BeforeValidator(_decimal_text)]
"""A number written as a string ("0.94", "2e-4"), so that no serializer changes its digits."""

Count = Annotated[int, Field(ge=0, le=10**15)]
"""A number of steps, tokens or bytes that a pod reports. Status can have it and what is computed from it."""

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""A duration that a pod reports."""

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
"""The name of a FineTuneJob, an EvalGate, a data source or a volume of a pod."""

DNS_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Pattern of the names of most Kubernetes objects, such as ConfigMaps and PersistentVolumeClaims."""
MAX_DNS_NAME = 253
DNS_NAME_DESCRIPTION = "lower-case letters, digits, dashes and dots, each part between letters or digits"
"""The format of a DNS name, for error messages."""

RESERVED = "tunegate"
"""Name of the folder of a claim with everything that Tunegate stores there, except published versions. No
address in a spec may lead into it."""

ObjectName = Annotated[str, Field(pattern=DNS_NAME_PATTERN, min_length=1, max_length=MAX_DNS_NAME)]
"""The name of an object of another kind in the same namespace, such as a ConfigMap or a Secret."""

SHA256_PATTERN = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN, max_length=64)]
"""The SHA-256 digest of a file's bytes, as ``sha256sum`` prints it."""


def exact(number: str) -> Fraction:
    """Return the exact value of a :data:`Decimal`, without binary rounding: ``exact("0.1") * 10 == 1``."""
    return Fraction(number)


def _utc(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


MAX_MESSAGE = 1024
"""Maximum length of a message in status, in characters."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Matches control characters except tabs and line feeds, characters that change the direction of text, and
unpaired surrogates, which UTF-8 cannot encode."""


def printable(text: str) -> str:
    """Replace control characters, with which text of rows or models could change a terminal, by their
    escapes, such as ``\\x1b``."""
    return _CONTROL.sub(lambda found: _escape(ord(found.group())), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cut(text: str) -> str:
    """Escape control characters in a message, and truncate it to the length that status allows."""
    return printable(text)[:MAX_MESSAGE]


def _cut(value: object) -> object:
    return cut(value) if isinstance(value, str) else value


def shorten(text: str, most: int) -> str:
    """Return the first ``most`` characters of a text, followed by an ellipsis if there are more."""
    return text if len(text) <= most else f"{text[:most]}…"


_MAX_PATH_PART = 64
"""Maximum length of a part of a path in a message, because keys may be long texts of users."""


def first_problem(error: ValidationError, *place: str) -> str:
    """Return the first problem of a validation, after the path of the field: "spec.min: Field required".
    ``place`` is the beginning of the path."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(part)[:_MAX_PATH_PART] for part in (*place, *first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def summarize(
    items: Sequence[str], most: int, *, total: int | None = None, separator: str = ", ", last: str = " and "
) -> str:
    """Join the first ``most`` items, and count the remaining items: "a, b and 3 more". If ``items`` holds
    only the first items of a longer list, ``total`` is the length of that list."""
    shown = items[:most]
    rest = (len(items) if total is None else total) - len(shown)
    return separator.join(shown) + (f"{last}{rest} more" if rest > 0 else "")


Message = Annotated[str, Field(max_length=MAX_MESSAGE), BeforeValidator(_cut)]
"""A message in status. A message longer than ``MAX_MESSAGE`` characters is truncated, and control characters
are escaped."""

Time = Annotated[datetime, PlainSerializer(_utc, return_type=str, when_used="json")]
"""A time in UTC, serialized in RFC 3339 format with whole seconds, as in Kubernetes."""


class OwnerReference(StatusModel):
    """Reference to an owner of this object, as in Kubernetes."""

    api_version: str
    """API group and version of the owner."""
    kind: str
    """Kind of the owner."""
    name: str
    """Name of the owner."""
    uid: str
    """UID of the owner."""
    controller: bool | None = None
    """Whether the owner is the controller of this object. An object has at most one controller."""
    block_owner_deletion: bool | None = None
    """Whether foreground deletion of the owner waits until this object is deleted."""


class ObjectMeta(StatusModel):
    """The part of Kubernetes' ObjectMeta that Tunegate reads."""

    name: str
    """Name of the object, unique among the objects of the same kind in the namespace."""
    namespace: str = "default"
    """Namespace of the object."""
    uid: str = ""
    """UID of the object, set by the cluster."""
    generation: int = 1
    """Sequence number of the spec, set by the cluster. It increases with every change of the spec."""
    resource_version: str = ""
    """Version of the object. It changes with every write."""
    creation_timestamp: Time | None = None
    """Time at which the object was created."""
    deletion_timestamp: Time | None = None
    """Time at which the deletion of the object was requested."""
    labels: dict[str, str] = {}
    """Labels of the object."""
    annotations: dict[str, str] = {}
    """Annotations of the object."""
    owner_references: list[OwnerReference] = []
    """Owners of the object."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, raw: Any) -> Any:
        """Drop null values, as Kubernetes does: ``annotations:`` without a value means no annotations."""
        return {k: v for k, v in raw.items() if v is not None} if isinstance(raw, dict) else raw


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(StatusModel):
    """An observed condition of the resource, for programs."""

    type: Annotated[str, Field(max_length=64)]
    """Type of the condition."""
    status: ConditionStatus
    """Status of the condition."""
    reason: Annotated[str, Field(max_length=64)]
    """Reason for the status, one of the documented constants."""
    message: Message = ""
    """Explanation of the status, for people."""
    observed_generation: int | None = None
    """Generation of the spec that the condition was observed for. The condition is out of date if
    `observedGeneration` is lower than metadata.generation."""
    last_transition_time: Time
    """Time at which `status` last changed."""


def next_condition(
    before: list[Condition],
    type: str,
    status: ConditionStatus,
    reason: str,
    message: str = "",
    *,
    generation: int,
    now: datetime,
) -> Condition:
    """Return the condition ``type``. Its transition time is that of the same condition in ``before``, the
    conditions of the last status, unless ``status`` differs."""
    old = find_condition(before, type)
    return Condition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old and old.status == status else now,
    )


def find_condition(conditions: list[Condition], type: str) -> Condition | None:
    return next((c for c in conditions if c.type == type), None)
