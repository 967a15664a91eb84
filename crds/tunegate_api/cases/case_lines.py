"""Read golden sets and safety sets in JSON Lines format, and collect all their faults."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import shorten, summarize
from tunegate_api.safety_sets import builtin_text
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.verdict.outcomes import MAX_CASES

_SHOWN_NAME = 80
"""Maximum length of a field name in a message."""
CaseT = TypeVar("CaseT", bound=GoldenCase)


class CaseSetError(ValueError):
    """A set of cases, or a case, is invalid. ``problems`` has one line for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(summarize(self.problems, 5, separator="; "))


def inline_text(cases: Sequence[dict[str, Any]]) -> str:
    """Return inline cases as JSON Lines with sorted keys, so that equal cases have the same text and the same
    digest."""
    return "".join(json.dumps(case, sort_keys=True, ensure_ascii=False) + "\n" for case in cases)


def written_text(source: CaseSource) -> str | None:
    """Return the text of cases that are in the spec, or are included in Tunegate. Returns None if the cases
    are in a file."""
    if source.builtin is not None:
        return builtin_text(source.builtin)
    return None if source.inline is None else inline_text(source.inline)


def without_repetition(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object with these fields, as ``object_pairs_hook`` of :mod:`json`. Raises
    :class:`CaseSetError` if a field is given twice, because only the last one would count."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise CaseSetError([f"{shorten(name, _SHOWN_NAME)} is given twice"])
        found[name] = value
    return found


def parse_cases(text: str, kind: type[CaseT]) -> list[CaseT]:
    """Parse the JSON Lines ``text`` of a set of cases. Blank lines are skipped. ``kind`` is the type of the
    cases: :class:`~tunegate_api.cases.golden.GoldenCase` for a golden set, or
    :class:`~tunegate_api.cases.safety_cases.SafetyCase` for a safety set.

    Raises :class:`CaseSetError` if lines are invalid, ids are used twice, or the set is empty or too large.
    The error lists all faults with their line numbers. A case that is still a placeholder is a fault.
    """
    cases: list[CaseT] = []
    problems: list[str] = []
    lines_by_id: dict[str, int] = {}
    # Not splitlines(), which would also split at characters such as U+2028 inside a JSON string.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = parse_case(line, kind)
        except CaseSetError as error:
            problems += [f"line {number}: {problem}" for problem in error.problems]
            continue
        if case.id in lines_by_id:
            problems.append(f"line {number}: id {case.id} is already used in line {lines_by_id[case.id]}")
        lines_by_id.setdefault(case.id, number)
        cases.append(case)
    if not cases and not problems:
        problems.append(f"the {kind.SET} set has no cases")
    if len(cases) > MAX_CASES:
        problems.append(f"the {kind.SET} set has {len(cases)} cases, but at most {MAX_CASES} are supported")
    if problems:
        raise CaseSetError(problems)
    return cases


def parse_case(line: str, kind: type[CaseT]) -> CaseT:
    """Parse one line of a set of cases, see :func:`parse_cases`."""
    try:
        fields = json.loads(line, object_pairs_hook=without_repetition)
        _refuse_placeholder(fields)
        case = kind.model_validate(fields)
        json.dumps(case.to_wire(), ensure_ascii=False).encode()
    except CaseSetError:
        raise
    except json.JSONDecodeError as error:
        problems = [f"not JSON ({error.msg} at column {error.colno})"]
    except UnicodeEncodeError:
        problems = ["contains an unpaired surrogate, which is not a character"]
    except RecursionError:
        problems = ["the JSON is nested too deeply to be parsed"]
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'case'}: {each['msg']}" for each in error.errors()]
    except ValueError as error:  # valid JSON, but with a number that is too long to parse
        problems = [f"cannot be parsed: {error}"]
    else:
        return case
    raise CaseSetError(problems)


def _refuse_placeholder(fields: Any) -> None:
    """Raise :class:`CaseSetError` if a case has the field ``todo``. Its other fields may be empty then."""
    if isinstance(fields, dict) and fields.get("todo") is not None:
        what, name = str(fields["todo"]).strip(), fields.get("id", "without an id")
        what = what or "its prompt and its expectations"
        raise CaseSetError([f"case {name} is a placeholder: write {what}, then remove todo"])
