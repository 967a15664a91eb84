"""Record in which split (train, dev or test) every prompt and group was, for later jobs that start from this
job's model. The split of a row is called its side."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunegate_api.contract.request import StartRequest
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.data.held_out import answered_prompts, check_disjoint, learned_prompts, prompts_of
from tunegate_trainer.data.split import HELD_OUT, SIDES, Split, group_key
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.fetch.address import volume_folder
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError, unreadable
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.tokens.rows import Pair, Row, RowT

SIDES_FILE = "sides.json"
"""File name of the record in the job's data folder. The cleanup role does not remove this file."""


@dataclass(frozen=True)
class Sides:
    """The sides of all prompts and groups of a job, and of the chain of jobs that its model started from."""

    side_of: Mapping[str, str]
    """The side of a prompt or group, by its :func:`text_key`."""

    @property
    def held_out(self) -> set[str]:
        return {key for key, side in self.side_of.items() if side in HELD_OUT}

    @property
    def trained(self) -> set[str]:
        return {key for key, side in self.side_of.items() if side == "train"}

    def of(self, measured: UsableRow[Any]) -> set[str]:
        """Return the recorded sides of the group and the prompt of a row or pair. The set may be empty."""
        keys = [group_key(measured.labelled.group), measured.labelled.prompt]
        return {self.side_of[key] for key in keys if key in self.side_of}

    def of_groups(self, rows: Sequence[UsableRow[Any]]) -> dict[str, str]:
        """Return the side of each group in ``rows`` that has a row or pair with a recorded side.

        If the rows of a group have several sides, the group gets train if that is one of them, else dev. A
        group must not be held out once the model was trained on a part of it.
        """
        found: dict[str, set[str]] = defaultdict(set)
        for measured in rows:
            found[measured.group] |= self.of(measured)
        return {group: min(sides, key=SIDES.index) for group, sides in found.items() if sides}

    def without_conflicts(
        self, rows: Sequence[UsableRow[RowT]], placed: Mapping[str, str]
    ) -> tuple[list[UsableRow[RowT]], list[str]]:
        """Exclude rows that an earlier job held out, if ``placed`` has their groups on the train side.

        Returns the remaining rows, and the places of the excluded rows.
        """
        kept: list[UsableRow[RowT]] = []
        excluded: list[str] = []
        for measured in rows:
            if placed.get(measured.group) == "train" and not self.of(measured).isdisjoint(HELD_OUT):
                excluded.append(str(measured.labelled.place))
            else:
                kept.append(measured)
        return kept, excluded


def read_sides(root: Path, start: StartRequest | None) -> Sides:
    """Read in which split (train, dev or test) the job in ``start`` recorded its prompts and groups. Returns
    an empty record if ``start`` is None.

    Raises :class:`SourceNotFoundError` if the record is missing, :class:`UserError` if permission to read it
    is denied, and :class:`StorageError` if it is damaged.
    """
    if start is None:
        return Sides({})
    path = Workspace(start.uid).data / SIDES_FILE
    uri = f"pvc://{start.claim}/{path}"
    what = f"model.startFrom: {uri}, the record of the rows that FineTuneJob {start.job} trained on,"
    hint = (
        "without this record, rows that were trained on could be held out: "
        f"run {start.job} again under another name, and start from the new job"
    )
    try:
        content = json.loads((volume_folder(root, start.claim) / path).read_bytes())
        return Sides({str(key): side for side in SIDES for key in content[side]})
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{what} is missing", hint) from error
    except PermissionError as error:
        raise unreadable(what) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{what} is damaged", hint) from error


def write_sides(
    folder: Path, earlier: Sides, rows: Split[UsableRow[Row]], pairs: Split[UsableRow[Pair]]
) -> None:
    """Record the sides of this job and of earlier jobs in ``folder``, the data folder of this job."""
    keys: dict[str, set[str]] = {side: set() for side in SIDES}
    for side in SIDES:
        both: list[UsableRow[Any]] = [*rows.side(side), *pairs.side(side)]
        for measured in both:
            prompts = answered_prompts(measured) if side == "train" else prompts_of([measured])
            keys[side] |= {group_key(measured.labelled.group), *prompts}
    for key, side in earlier.side_of.items():
        keys[side].add(key)
    write_atomic(folder / SIDES_FILE, json.dumps({side: sorted(keys[side]) for side in SIDES}) + "\n")


def held_out_prompts(split: Split[UsableRow[Row]], of_pairs: Split[UsableRow[Pair]]) -> set[str]:
    """Return the prompts of all held-out rows and pairs."""
    prompts = prompts_of([*split.dev, *split.test]) + prompts_of([*of_pairs.dev, *of_pairs.test])
    return set(prompts)


def check_sides(
    split: Split[UsableRow[Row]], of_pairs: Split[UsableRow[Pair]], earlier: Sides, kept: int
) -> dict[str, Any]:
    """Check the split, and return its numbers for the data report.

    Raises :class:`AssertionError`, which would be a bug in Tunegate, in these cases: a prompt or a group of
    rows is in two splits; a prompt is trained on although this or an ``earlier`` job held it out; a prompt is
    held out although an earlier job trained on it; or the splits together do not have ``kept`` rows.
    """
    sides = {side: split.side(side) for side in SIDES}
    check_disjoint({side: [row.group for row in rows] for side, rows in sides.items()})
    check_disjoint({side: prompts_of(rows) for side, rows in sides.items()})
    learned = set(learned_prompts(split.train) + learned_prompts(of_pairs.train))
    held_out = held_out_prompts(split, of_pairs)
    check_disjoint({"learned": [*learned, *earlier.trained], "held out": list(held_out)})
    check_disjoint({"learned": list(learned), "held out": list(earlier.held_out)})
    if sum(map(len, sides.values())) != kept:
        raise AssertionError("the split lost rows")
    return {"overlapping_prompts": 0, **{k: len(rows) for k, rows in sides.items()}}
