"""A number or a share of a total, such as 3 or "5%"."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tunegate_api.meta import RULES_KEY, exact

INT_OR_STRING = "x-kubernetes-int-or-string"
"""Key in the JSON schema of a field whose value is an integer or a string, as in Kubernetes."""

_MOST = 10_000_000


@dataclass(frozen=True)
class CountOrShare:
    """The type of a field with a number or a share: ``Annotated[int | str, CountOrShare("cases")]``.

    A number is an integer, and a share a percentage with up to three decimals, such as ``"2.5%"``.
    """

    of: str
    """What is counted, for error messages: "cases"."""
    least: int = 0
    """The smallest number, and the smallest share in percent: 0 or 1."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.int_schema(strict=True, ge=self.least, le=_MOST)
        share = core_schema.str_schema(strict=True, pattern=self._pattern)
        # One error for both, because only one of them is meant.
        return core_schema.union_schema(
            [number, share], custom_error_type="count_or_share", custom_error_message=self._message
        )

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _: GetJsonSchemaHandler) -> dict[str, Any]:
        number = f"self >= {self.least} && self <= {_MOST}"
        rule = f"type(self) == int ? {number} : self.matches(r'{self._pattern}')"
        return {INT_OR_STRING: True, RULES_KEY: [{"rule": rule, "message": self._message}]}

    @property
    def _pattern(self) -> str:
        return rf"^({'[1-9][0-9]?' if self.least else '[0-9]{1,2}'}(\.[0-9]{{1,3}})?|100)%$"

    @property
    def _message(self) -> str:
        return (
            f"must be a number of {self.of} from {self.least}, or a share of them from {self.least}% to 100%"
        )


def count_or_share(value: int | str) -> int | Fraction:
    """Return 3 and ``"3"`` as 3, and ``"5%"`` as the fraction 1/20."""
    text = str(value)
    return exact(text.removesuffix("%")) / 100 if text.endswith("%") else int(text)
