"""Fields of the API that are not implemented yet. They are refused, because no field may be ignored.

When a feature works, delete its line from the table, and its test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tunegate_api.validation.partial import Part


@dataclass(frozen=True)
class When:
    """The values of a field that are not supported."""

    label: str
    """Text that the docs print after the field's name, such as ``true``."""
    holds: Callable[[Any], bool]


GIVEN = When("", lambda _: True)


def _is(*values: object) -> When:
    label = " or ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
    return When(label, lambda value: value in values)


def _scheme_besides(*schemes: str) -> When:
    listed = ", ".join(f"{scheme}://" for scheme in schemes)
    return When(
        f"other than {listed}",
        lambda uri: isinstance(uri, str) and uri.partition("://")[0] not in schemes,
    )


@dataclass(frozen=True)
class NotYet:
    """A field that is not supported yet: a line of the tables FINETUNEJOB and EVALGATE."""

    field: str
    """Path of the field below ``spec``. ``[]`` stands for each entry of a list."""
    when: When
    what: str
    """What is not supported, and what to use instead."""


FINETUNEJOB = (
    NotYet(
        "model.trustRemoteCode",
        _is(True),
        "code from a model's repository; use a model that transformers knows",
    ),
    NotYet("queueName", GIVEN, "waiting in a Kueue queue"),
    NotYet(
        "publish[].uri", _scheme_besides("file", "pvc"), "this target; publish to a volume: pvc://CLAIM/PATH"
    ),
    NotYet("publish[].secretName", GIVEN, "credentials for targets; publish to a volume"),
)

EVALGATE = (
    NotYet("target", GIVEN, "judging a model independently of a job"),
    NotYet("schedule", GIVEN, "judging on a schedule"),
)


def check_supported(spec: Part, table: tuple[NotYet, ...]) -> None:
    """Refuse the fields of ``spec`` that ``table`` lists."""
    for line in table:
        for part, name in _holders(spec, line.field):
            value = part.get(name)
            if value is not None and line.when.holds(value):
                part.refuse(f"not supported yet: {line.what}", name)


def _holders(part: Part, field: str) -> Iterator[tuple[Part, str]]:
    """Yield each mapping that can have the field, and the name of the field in it."""
    head, _, rest = field.partition(".")
    if not rest:
        yield part, head
    elif head.endswith("[]"):
        for entry in part.parts(head.removesuffix("[]")):
            yield from _holders(entry, rest)
    elif inner := part.part(head):
        yield from _holders(inner, rest)
