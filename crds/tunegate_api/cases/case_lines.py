"""Parse files of cases in JSON Lines format, and collect all their faults."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from tunegate_api.meta import shorten, summarize
from tunegate_api.verdict.outcomes import MAX_CASES

_SHOWN_NAME = 80
"""Maximum length of a field name in a message."""


class _HasId(Protocol):
    @property
    def id(self) -> str: ...

    def to_wire(self) -> dict[str, Any]: ...


CaseType = TypeVar("CaseType", bound=_HasId)


class CaseError(Exception):
    """A case is invalid for a reason that is not about its format. The message is for people."""


class CaseSetError(ValueError):
    """A set of cases is invalid. ``problems`` has one line for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(summarize(self.problems, 5, separator="; "))


def inline_text(cases: Sequence[dict[str, Any]]) -> str:
    """Return inline cases as JSON Lines with sorted keys, so that equal cases have the same text and the same
    digest."""
    return "".join(json.dumps(case, sort_keys=True, ensure_ascii=False) + "\n" for case in cases)


def without_repetition(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object with these fields, as ``object_pairs_hook`` of :mod:`json`. Raises :class:`CaseError`
    if a field is given twice, because only the last one would count."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise CaseError(f"{shorten(name, _SHOWN_NAME)} is given twice")
        found[name] = value
    return found


def parse_case_lines(
    text: str, parse: Callable[[Any], CaseType], what: str
) -> tuple[list[CaseType], list[str]]:
    """Return the cases in ``text``, and its faults with their line numbers. Blank lines are skipped.

    ``parse`` makes a case from a JSON value, and may raise :class:`ValidationError` or :class:`CaseError`.
    ``what`` is the kind of set for messages, such as "golden set". It is a fault if ids are used twice, or if
    the set is empty or too large.
    """
    cases: list[CaseType] = []
    problems: list[str] = []
    lines_by_id: dict[str, int] = {}
    # Not splitlines(), which would also split at characters such as U+2028 inside a JSON string.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = parse(json.loads(line, object_pairs_hook=without_repetition))
            json.dumps(case.to_wire(), ensure_ascii=False).encode()
        except CaseError as problem:
            problems.append(f"line {number}: {problem}")
            continue
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not JSON ({error.msg} at column {error.colno})")
            continue
        except UnicodeEncodeError:
            problems.append(f"line {number}: contains an unpaired surrogate, which is not a character")
            continue
        except RecursionError:
            problems.append(f"line {number}: the JSON is nested too deeply to be parsed")
            continue
        except ValidationError as error:
            problems += [
                f"line {number}: {'.'.join(str(p) for p in e['loc']) or 'case'}: {e['msg']}"
                for e in error.errors()
            ]
            continue
        except ValueError as error:  # valid JSON, but with a number that is too long to parse
            problems.append(f"line {number}: cannot be parsed: {error}")
            continue
        if case.id in lines_by_id:
            problems.append(f"line {number}: id {case.id} is already used in line {lines_by_id[case.id]}")
        lines_by_id.setdefault(case.id, number)
        cases.append(case)
    if not cases and not problems:
        problems.append(f"the {what} has no cases")
    if len(cases) > MAX_CASES:
        problems.append(f"the {what} has {len(cases)} cases, but at most {MAX_CASES} are supported")
    return cases, problems
