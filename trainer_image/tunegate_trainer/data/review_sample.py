"""Choose the training rows that are reviewed before training, and write them to the volume.

The sample depends only on the content of the rows, not on their order or on a seed. Most of it stays the same
if a few rows are added or removed.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import nsmallest
from pathlib import Path

from tunegate_api.contract.plan import SampledRow, SamplePlan
from tunegate_api.judging.review_sample import ReviewRow, sample_digest, with_id
from tunegate_trainer.data.labels import MIN_ROWS_PER_LABEL, count_labels, label_of
from tunegate_trainer.data.split import normalize
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.tokens.rows import Row

LEAST_ROWS, MOST_ROWS = 20, 500
"""The smallest and the largest sample. Fewer rows say too little, and nobody scores more."""
MOST_GROUPS = 20
"""Groups count as strata if there are at most this many different ones."""
MOST_RUNS = 20
"""The most runs into which the rows of a label are cut by group and length."""
_MAX_ROW_ID = 64


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What decides whether a row is chosen."""

    label: bytes
    group: bytes
    tokens: int
    digest: bytes
    position: int
    """The position of the row among the training rows."""


def write_sample(path: Path, rows: Sequence[UsableRow[Row]], share: Fraction) -> SamplePlan:
    """Choose about ``share`` of the training rows for the review, and write them as JSON Lines. Return what
    the plan records about the sample."""
    chosen = [review_row(rows[position].labelled.row) for position in choose_rows(rows, share)]
    chosen.sort(key=lambda row: row.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row.model_dump_json(by_alias=True, exclude_none=True) for row in chosen)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return SamplePlan(
        sha256=sample_digest(chosen),
        rows=[SampledRow(id=row.id, row=row.row[:_MAX_ROW_ID]) for row in chosen],
    )


def has_sample(path: Path, plan: SamplePlan) -> bool:
    """Return whether the file has the sample in the plan."""
    try:
        with path.open(encoding="utf-8") as file:
            return sample_digest(ReviewRow.model_validate_json(line) for line in file) == plan.sha256
    except (FileNotFoundError, ValueError):
        return False


def choose_rows(rows: Sequence[UsableRow[Row]], share: Fraction) -> list[int]:
    """Return the positions of the rows in the sample.

    If the completions are labels, see :meth:`~tunegate_trainer.data.labels.LabelCounter.labels`, each label
    of at least three rows gets a part of the sample that is proportional to its number of rows, but at least
    one row. All other rows get a part like a label. Labels are ignored if there are more of them than rows in
    the sample. The rows of a label are sorted by group, if there are few groups, and by length, and cut into
    runs of equal size. From each run, the rows with the lowest digests are chosen. So groups and lengths have
    their parts, too. Rows with equal content count once.
    """
    candidates = list(_candidates(rows))
    wanted = min(len(candidates), MOST_ROWS, max(LEAST_ROWS, math.ceil(share * len(candidates))))
    labels = len({one.label for one in candidates}) <= wanted
    groups = _few({one.group for one in candidates})
    strata: dict[bytes, list[_Candidate]] = defaultdict(list)
    for one in candidates:
        strata[one.label if labels else b""].append(one)
    sizes = _shares({label: len(members) for label, members in strata.items()}, wanted)
    chosen: list[int] = []
    for label, members in strata.items():
        # The order of rows of equal length must not depend on what selects them within a run.
        members.sort(key=lambda one: (one.group if groups else b"", one.tokens, one.digest[::-1]))
        for run, size in _runs(members, sizes[label]):
            chosen += [one.position for one in nsmallest(size, run, key=lambda one: one.digest)]
    return chosen


def _candidates(rows: Sequence[UsableRow[Row]]) -> Iterator[_Candidate]:
    """Yield a candidate for each row, but only one for rows with equal content."""
    labels = _labels(rows)
    seen, groups = set[bytes](), set[bytes]()
    for position, measured in enumerate(rows):
        row = measured.labelled.row
        # Without the fields that depend on the position of the row, or on the rows that are held out.
        content = row.model_dump_json(exclude={"id", "unlearned"}, exclude_defaults=True)
        digest = _digest(content)
        if digest in seen:
            continue
        seen.add(digest)
        text = normalize(row.completion)
        label = _digest(text) if text in labels and label_of(row) else b""
        # Once there are too many groups, further ones are not kept, because they need memory.
        group = _digest(measured.group) if _few(groups) else b""
        groups.add(group)
        yield _Candidate(label, group, measured.tokens, digest, position)


def _labels(rows: Sequence[UsableRow[Row]]) -> set[str]:
    """Return the normalized labels that enough rows have. Empty if the completions are not labels."""
    counted = count_labels(measured.labelled.row for measured in rows)
    if counted is None:
        return set()
    return {normalize(label) for label, count in counted.items() if count >= MIN_ROWS_PER_LABEL}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _few(values: set[bytes]) -> bool:
    return len(values) <= MOST_GROUPS


def _shares(sizes: Mapping[bytes, int], wanted: int) -> dict[bytes, int]:
    """Return how many of the ``wanted`` rows each stratum gets: in proportion to its size, rounded by the
    largest remainder, but at least one."""
    total = sum(sizes.values())
    shares = {key: max(1, wanted * size // total) for key, size in sizes.items()}
    remainders = Counter({key: wanted * size % total for key, size in sizes.items()})
    by_need = sorted(sizes, key=lambda key: (-remainders[key], key))
    while sum(shares.values()) < wanted:
        for key in by_need:
            if sum(shares.values()) < wanted and shares[key] < sizes[key]:
                shares[key] += 1
    while sum(shares.values()) > wanted:
        shares[max(shares, key=lambda key: (shares[key], key))] -= 1
    return shares


def _runs(members: Sequence[_Candidate], count: int) -> Iterator[tuple[Sequence[_Candidate], int]]:
    """Yield consecutive runs of ``members`` of about equal size, and how many of the ``count`` rows to choose
    from each."""
    runs = min(count, MOST_RUNS)
    for number in range(runs):
        start, end = (part * len(members) // runs for part in (number, number + 1))
        first, last = (part * count // runs for part in (number, number + 1))
        yield members[start:end], last - first


def review_row(row: Row) -> ReviewRow:
    """Return a training row as it is reviewed, with its id in the sample."""
    return with_id(
        ReviewRow(
            row=row.id,
            prompt=row.prompt,
            completion=row.completion,
            reasoning=row.reasoning,
            tool_calls=row.tool_calls,
            tools=row.tools,
        )
    )
