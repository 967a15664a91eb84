"""What every resource shares: metadata, conditions, and the base models of the API."""

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

RULES_KEY = "x-rules"
"""Where a type's JSON schema holds CEL rules of its own, in the form of ``x-kubernetes-validations``."""


class ApiModel(BaseModel):
    """A part of a spec: camelCase on the wire, unknown fields refused, immutable once parsed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """The JSON form that Kubernetes and files carry: camelCase, nothing that was not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of a status. Unknown fields are dropped, so an older reader survives a newer writer."""

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
"""A list of which only the first wrong item is an error, so that refusing a long one takes no more than
reading it. For what others send."""

MAX_ENTRIES = 512
"""Entries of a :data:`Mapped`."""


def _few_entries(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_ENTRIES:
        raise PydanticCustomError(
            "too_many_entries",
            "must have at most {most} entries, not {found}",
            {"most": MAX_ENTRIES, "found": len(value)},
        )
    return value


Mapped = Annotated[dict[str, _Item], BeforeValidator(_few_entries)]
"""A bounded mapping, for the same reason: each of its wrong entries is an error."""

DECIMAL_PATTERN = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"

Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=32), BeforeValidator(_decimal_text)]
"""A number written as a string ("0.94", "2e-4"), so that it survives every serializer unchanged."""

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
"""The name of an object in the same namespace."""

DNS_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""The name of an object of most other kinds, such as a ConfigMap or a PersistentVolumeClaim."""
MAX_DNS_NAME = 253
DNS_NAME_SHAPE = "lower-case letters, digits, dashes and dots, each part between letters or digits"
"""What a DNS name looks like, in words."""

SHA256_PATTERN = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN, max_length=64)]
"""The SHA-256 digest of a file's bytes, as ``sha256sum`` prints it."""


def exact(number: str) -> Fraction:
    """The exact value of a :data:`Decimal`. No binary rounding: ``exact("0.1") * 10 == 1``."""
    return Fraction(number)


def _utc(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


MAX_MESSAGE = 1024
"""Characters of a message in status."""


def cut(text: str) -> str:
    """The beginning of a message, as much as status holds."""
    return text[:MAX_MESSAGE]


def summarize(
    items: Sequence[str], most: int, *, total: int | None = None, separator: str = ", ", last: str = " and "
) -> str:
    """Join the first ``most`` items, and count the rest: "a, b and 3 more". ``total`` is how many there are,
    where ``items`` is only the beginning of them."""
    shown = items[:most]
    rest = (len(items) if total is None else total) - len(shown)
    return separator.join(shown) + (f"{last}{rest} more" if rest > 0 else "")


Message = Annotated[str, Field(max_length=MAX_MESSAGE), BeforeValidator(cut)]
"""A message in status; a longer one is cut."""

Time = Annotated[datetime, PlainSerializer(_utc, return_type=str, when_used="json")]
"""A moment in UTC, written as RFC 3339 with whole seconds as Kubernetes does."""


class OwnerReference(StatusModel):
    """The object that this one belongs to."""

    api_version: str
    """Its API group and version."""
    kind: str
    """Its kind."""
    name: str
    """Its name."""
    uid: str
    """Its uid."""
    controller: bool | None = None
    """Whether it manages this object; one owner does."""
    block_owner_deletion: bool | None = None
    """Whether it waits for this object to go when it is deleted in the foreground."""


class ObjectMeta(StatusModel):
    """The part of Kubernetes' ObjectMeta that Tunegate reads."""

    name: str
    """Unique among objects of its kind in the namespace."""
    namespace: str = "default"
    """Where the object lives."""
    uid: str = ""
    """Unique over all time. Given by the cluster."""
    generation: int = 1
    """Counts the changes of the spec."""
    resource_version: str = ""
    """Changes with every write."""
    creation_timestamp: Time | None = None
    """When the cluster took it in."""
    deletion_timestamp: Time | None = None
    """When somebody asked to delete it."""
    labels: dict[str, str] = {}
    """To select by."""
    annotations: dict[str, str] = {}
    """Notes of tools and people."""
    owner_references: list[OwnerReference] = []
    """The objects that this one belongs to."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, raw: Any) -> Any:
        """``annotations:`` with nothing behind it is what Kubernetes takes for no annotations."""
        return {k: v for k, v in raw.items() if v is not None} if isinstance(raw, dict) else raw


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(StatusModel):
    """One observed fact about the resource, for machines."""

    type: Annotated[str, Field(max_length=64)]
    """Which fact."""
    status: ConditionStatus
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, as a documented constant."""
    message: Message = ""
    """Why, for people."""
    observed_generation: int | None = None
    """The generation of the spec that this was observed for. Older than metadata.generation: out of date."""
    last_transition_time: Time
    """When `status` last changed."""


def with_condition(
    conditions: list[Condition],
    type: str,
    status: ConditionStatus,
    reason: str,
    message: str = "",
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """A new list in which the condition ``type`` says this; its time moves only when ``status`` does."""
    new = Condition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=now,
    )
    for i, old in enumerate(conditions):
        if old.type == type:
            if old.status == status:
                new = new.model_copy(update={"last_transition_time": old.last_transition_time})
            return [*conditions[:i], new, *conditions[i + 1 :]]
    return [*conditions, new]


def without_condition(conditions: list[Condition], type: str) -> list[Condition]:
    """The list without the condition ``type``."""
    return [c for c in conditions if c.type != type]


def find_condition(conditions: list[Condition], type: str) -> Condition | None:
    return next((c for c in conditions if c.type == type), None)
