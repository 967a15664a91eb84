"""Rules for the value of a string field, in addition to the field's pattern. A rule is declared with the type
of the field: ``Annotated[Decimal, Between(least=0)]``.

:mod:`tunegate_api.validation.rules` checks the rules in Python, and the API server checks them in CEL.
Parsing does not check them.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from tunegate_api.meta import DECIMAL_PATTERN, RULES_KEY, exact

Number = int | Fraction


@dataclass(frozen=True)
class ValueRule(ABC):
    """A rule for one string, in Python and in CEL, with its error message."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        schema[RULES_KEY] = [*schema.get(RULES_KEY, []), {"rule": self.cel, "message": self.message}]
        return schema

    @abstractmethod
    def allows(self, text: str) -> bool:
        """Return whether ``text`` follows the rule."""

    @property
    @abstractmethod
    def cel(self) -> str:
        """The rule as a CEL expression, in which ``self`` is the string."""

    @property
    @abstractmethod
    def message(self) -> str:
        """The error message, which says what the string must be: "must be at least 0". The caller adds the
        name of the field."""


@dataclass(frozen=True)
class Between(ValueRule):
    """The rule that a string is a decimal within bounds, or a percentage with ``percent``. In CEL, numbers
    are compared as doubles; in Python, exactly."""

    above: Number | None = None
    least: Number | None = None
    below: Number | None = None
    most: Number | None = None
    percent: bool = False

    def allows(self, text: str) -> bool:
        value = exact(text.removesuffix("%"))
        return (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    @property
    def cel(self) -> str:
        bounds = ((">", self.above), (">=", self.least), ("<", self.below), ("<=", self.most))
        number = "self.replace('%', '')" if self.percent else "self"
        tests = [f"double({number}) {sign} {float(bound)}" for sign, bound in bounds if bound is not None]
        return f"{number}.matches(r'{DECIMAL_PATTERN}') && {' && '.join(tests)}"

    @property
    def message(self) -> str:
        bounds = (
            ("more than", self.above),
            ("at least", self.least),
            ("less than", self.below),
            ("at most", self.most),
        )
        unit = "%" if self.percent else ""
        limits = " and ".join(
            f"{words} {float(bound):g}{unit}" for words, bound in bounds if bound is not None
        )
        return f"must be {limits}" + ("" if self.percent else ", as a number in quotes")


@dataclass(frozen=True)
class AllowedSchemes(ValueRule):
    """The rule that an address has one of ``schemes``, such as ``pvc``."""

    schemes: tuple[str, ...]

    def allows(self, text: str) -> bool:
        return text.partition("://")[0] in self.schemes

    @property
    def cel(self) -> str:
        return f"!self.contains('://') || self.matches('^({'|'.join(self.schemes)})://')"

    @property
    def message(self) -> str:
        *others, last = [f"{scheme}://" for scheme in self.schemes]
        return f"must begin with {', '.join(others)} or {last}" if others else f"must begin with {last}"


@dataclass(frozen=True)
class Form(ValueRule):
    """The rule that a string contains a match of ``pattern`` or, with ``never``, that it contains none. The
    rule applies only to strings that begin with ``start``."""

    pattern: str
    must: str
    never: bool = False
    start: str = ""

    def allows(self, text: str) -> bool:
        return not text.startswith(self.start) or bool(re.search(self.pattern, text)) is not self.never

    @property
    def cel(self) -> str:
        test = f"{'!' if self.never else ''}self.matches(r'{self.pattern}')"
        return f"!self.startsWith('{self.start}') || {test}" if self.start else test

    @property
    def message(self) -> str:
        return self.must
