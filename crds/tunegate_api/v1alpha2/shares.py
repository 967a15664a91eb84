"""Shares, which are written as percentages such as "5%", and numbers or shares, such as 3 or "5%"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from tunegate_api.meta import DECIMAL_PATTERN, exact
from tunegate_api.v1alpha2.values import Between

INT_OR_STRING = "x-kubernetes-int-or-string"
"""Key in the JSON schema of a field whose value is an integer or a string, as in Kubernetes."""
NOT_A_SHARE = "not_a_share"
"""The type of the validation error for a value that is not a percentage."""
PERCENT_PATTERN = r"^([0-9]{1,2}(\.[0-9]{1,9})?|100)%$"
EXAMPLE = 'such as "14%" instead of "0.14"'
PERCENT_DESCRIPTION = f"a percentage from 0% to 100%, {EXAMPLE}"
_ABOVE_ZERO_PATTERN = r"^((0?[1-9]|[1-9][0-9])(\.[0-9]{1,9})?|00?\.0{0,8}[1-9][0-9]{0,8}|100)%$"
_LONGEST = 13
_MOST = 10_000_000


def _refuse_number(value: object) -> object:
    """Refuse a number, also in quotes, and name the percentage to write instead."""
    if (instead := _percentages(value)) is None:
        return value
    raise _error("must be a percentage", instead)


def _error(must: str, instead: Sequence[str]) -> PydanticCustomError:
    message = f"{must}: write {' or '.join(instead)}" if instead else f"{must}, {EXAMPLE}"
    return PydanticCustomError(NOT_A_SHARE, "{message}", {"message": message})


def _percentages(value: object) -> list[str] | None:
    """Return the percentages that a number may mean: ``"14%"`` for 0.14 and for 14, ``"100%"`` and ``"1%"``
    for 1, and none for 250. Returns None if the value is not a number."""
    text = str(value)
    if isinstance(value, bool) or len(text) > _LONGEST or not re.fullmatch(DECIMAL_PATTERN, text):
        return None
    number = Decimal(text)
    meant = [100 * number] * (number <= 1) + [number] * (number >= 1)
    shares = [f"{share.normalize():f}%" for share in meant]
    return [f'"{share}"' for share in shares if re.fullmatch(PERCENT_PATTERN, share)]


Percent = Annotated[str, Field(pattern=PERCENT_PATTERN, max_length=_LONGEST), BeforeValidator(_refuse_number)]
"""A share, written as a percentage with up to nine decimals, such as ``"14%"``."""
PositivePercent = Annotated[Percent, Between(above=0, percent=True)]


@dataclass(frozen=True)
class CountOrShare:
    """The type of a field with a number or a share: ``Annotated[int | str, CountOrShare("cases")]``. A number
    is an integer, and a share is a :data:`Percent`."""

    of: str
    """What is counted, for error messages: "cases"."""
    least: int = 0
    """The smallest number: 0 or 1. With 1, a share must be more than 0 %."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.int_schema(strict=True, ge=self.least, le=_MOST)
        share = core_schema.str_schema(strict=True, pattern=self._pattern, max_length=_LONGEST)
        # One error for both, because only one of them is meant.
        either = core_schema.union_schema(
            [number, share], custom_error_type=NOT_A_SHARE, custom_error_message=self.message
        )
        return core_schema.no_info_before_validator_function(self._refuse_decimal, either)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            INT_OR_STRING: True,
            "minimum": self.least,
            "maximum": _MOST,
            "pattern": self._pattern,
            "maxLength": _LONGEST,
        }

    def _refuse_decimal(self, value: object) -> object:
        """Refuse a number in quotes or with a decimal point, and name what to write instead."""
        if isinstance(value, int) or (instead := _percentages(value)) is None:
            return value
        if str(value).isdigit():
            instead = [f"{value}, without quotes"]
        raise _error(self._must, instead)

    @property
    def _pattern(self) -> str:
        return _ABOVE_ZERO_PATTERN if self.least else PERCENT_PATTERN

    @property
    def _must(self) -> str:
        least = "above 0%, up to" if self.least else "from 0% to"
        return f"must be a number of {self.of} from {self.least}, or a percentage {least} 100%"

    @property
    def message(self) -> str:
        """The error message, which says what the value must be."""
        return f"{self._must}, {EXAMPLE}"


def share(percent: str) -> Fraction:
    """Return a percentage as an exact fraction: 1/20 for ``"5%"``. Raises ValueError for other text."""
    if not percent.endswith("%"):
        raise ValueError(f"{percent} is not a percentage")
    return exact(percent[:-1]) / 100


def count_or_share(value: int | str) -> int | Fraction:
    """Return a number as it is, and a percentage as an exact fraction."""
    return share(value) if isinstance(value, str) else value
