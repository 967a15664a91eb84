"""What an import carries over, and what it cannot carry over."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunegate_api.cases.case_lines import CaseSetError, parse_case
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import printable

MAX_ID = 63
"""Maximum length of the id of a golden case."""


class NotCarriedError(Exception):
    """Something has no exact equivalent in golden sets. ``kind`` is its name in the other format. Control
    characters and unpaired surrogates are escaped, because both texts may quote the file."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = printable(kind), printable(reason)
        super().__init__(f"{self.kind}: {self.reason}")


@dataclass(frozen=True)
class NotImported:
    """A kind of thing that was not carried over."""

    kind: str
    """Its name in the format of the other tool, such as ``llm-rubric``."""
    reason: str
    count: int
    """How often it occurs."""
    left_out: list[str]
    """Ids of the cases that were left out because of it."""
    incomplete: list[str]
    """Ids of the cases that were written without it."""


@dataclass
class Imported:
    """The result of an import."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    """The golden cases, as they are written."""
    found: int = 0
    """Number of cases in the source."""
    _faults: list[tuple[str, NotCarriedError, bool]] = field(default_factory=list)

    def add(self, case: Mapping[str, Any], faults: Sequence[NotCarriedError], *, incomplete: bool) -> None:
        """Add a case of the source. With ``faults`` it is left out, unless ``incomplete`` cases are wanted
        and it still has expectations."""
        self.found += 1
        written = {name: value for name, value in case.items() if value not in (None, [], False)}
        faults = list(faults)
        carried = bool(written.get("expect")) and (not faults or incomplete)
        if carried:
            fault = _fault(written)
            if fault:
                faults.append(NotCarriedError("golden case", fault))
                carried = False
        if carried:
            self.cases.append(written)
        self._faults += [(str(case["id"]), fault, carried) for fault in faults]

    @property
    def problems(self) -> list[NotImported]:
        """What was not carried over, the most frequent first."""
        groups: dict[tuple[str, str], list[tuple[str, bool]]] = {}
        for case, fault, carried in self._faults:
            groups.setdefault((fault.kind, fault.reason), []).append((case, carried))
        found = [
            NotImported(
                kind,
                reason,
                len(of),
                list(dict.fromkeys(case for case, carried in of if not carried)),
                list(dict.fromkeys(case for case, carried in of if carried)),
            )
            for (kind, reason), of in groups.items()
        ]
        return sorted(found, key=lambda problem: -problem.count)

    @property
    def left_out(self) -> int:
        """Number of cases that were not carried over."""
        return self.found - len(self.cases)

    @property
    def text(self) -> str:
        """The golden set as JSON Lines."""
        return "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in self.cases)


def _fault(case: Mapping[str, Any]) -> str | None:
    """Return why a case is no valid golden case, or None if it is."""
    try:
        parse_case(json.dumps(case), GoldenCase)
    except CaseSetError as error:
        return error.problems[0]
    return None


class Ids:
    """Gives each case an id that is unique and valid."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def new(self, wanted: str, fallback: str) -> str:
        """Return an id like ``wanted``. If that has no letters or digits, return one like ``fallback``."""
        base = slug(wanted) or fallback
        found, number = base, 1
        while found in self._used:
            number += 1
            found = f"{base[: MAX_ID - 8]}-{number}"
        self._used.add(found)
        return found


def slug(text: str) -> str:
    """Return the ASCII letters and digits of a text, with dashes instead of other characters."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")[:MAX_ID].rstrip("-._")


def tags_of(metadata: object) -> list[str]:
    """Return a tag NAME.VALUE for each short text, number or boolean in the metadata of a case."""
    fields: Iterable[tuple[object, object]] = metadata.items() if isinstance(metadata, Mapping) else ()
    tags = [
        slug(f"{name}.{value}")
        for name, value in fields
        if isinstance(value, str | int | float) and len(f"{name}.{value}") <= MAX_ID and slug(str(value))
    ]
    return list(dict.fromkeys(tag for tag in tags if tag))
