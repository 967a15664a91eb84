"""Add the rows of ``data.mix`` to those of ``data.train``. Mixed rows are trained on, but never held out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count

from transformers import PreTrainedTokenizerBase

from tunegate_api.meta import Sha256, exact
from tunegate_api.plan import MixedPlan
from tunegate_api.v1alpha1.data import Columns, Data
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.parse import Mixed, parse_rows
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.sides import HELD_OUT
from tunegate_trainer.data.split import Split
from tunegate_trainer.data.usable import Limit, Measured, SourceRows
from tunegate_trainer.fetch.sources import LocalSource, open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import Row


@dataclass(frozen=True)
class LabeledRows:
    """The rows of ``data.train`` and ``data.mix``."""

    source: SourceRows[Row]
    sha256: Sha256
    """The digest of ``data.train``."""
    mix_sha256: Sequence[Sha256]
    """The digests of the sources in ``data.mix``."""


def read_rows(
    context: Context, folder: DataFolder, tokenizer: PreTrainedTokenizerBase, longest: Limit
) -> LabeledRows:
    """Read ``data.train`` and ``data.mix``."""
    data = context.request.spec.data
    with ExitStack() as opened:
        train = opened.enter_context(open_source(context, data.train, "data.train"))
        mix = [
            opened.enter_context(open_source(context, source, mix_name(number)))
            for number, source in enumerate(data.mix)
        ]
        records = read_records(train.path, "data.train")
        parsed = parse_rows(
            records, data.train.columns, data.held_out.group_by, folder.scratch, _records(data, mix)
        )
    field, examples = "data" if data.mix else "data.train", folder.examples_file("data.train")
    return LabeledRows(
        SourceRows(field, parsed, tokenizer, longest, examples, records.format.NAME),
        train.sha256,
        [source.sha256 for source in mix],
    )


def mix_name(number: int) -> str:
    """Return the field of a source in ``data.mix``, as errors name it."""
    return f"data.mix[{number}]"


def _records(data: Data, mix: Sequence[LocalSource]) -> Iterator[Mixed]:
    for number, (source, opened) in enumerate(zip(data.mix, mix, strict=True)):
        name = mix_name(number)
        columns = Columns.model_validate(source.columns.model_dump())
        yield Mixed(name, read_records(opened.path, name), columns)


def without_mixed(rows: Iterable[Measured[Row]]) -> list[Measured[Row]]:
    """Return the rows of ``data.train``."""
    return [row for row in rows if not row.labelled.is_mixed]


def add_mixed(
    split: Split[Measured[Row]], rows: Iterable[Measured[Row]], placed: Mapping[str, str]
) -> tuple[Split[Measured[Row]], int]:
    """Add those of ``rows`` that are mixed to the training rows, except those in groups that are held out.

    ``placed`` has the side of each group that an earlier job used. Returns the split, and how many mixed rows
    were left out.
    """
    held_out = {group for group, side in placed.items() if side in HELD_OUT}
    held_out |= {row.group for side in HELD_OUT for row in split.side(side)}
    mixed = [row for row in rows if row.labelled.is_mixed]
    trained = [row for row in mixed if row.group not in held_out]
    return replace(split, train=[*split.train, *trained]), len(mixed) - len(trained)


def repeat_by_weight(rows: Sequence[Measured[Row]], data: Data) -> list[int]:
    """Return the positions of the training rows of an epoch: each as often as the weight of its source.

    Of a weight of 2.3, each row is repeated twice, and 30 % of the rows, those whose prompts have the lowest
    hashes, once more. So a larger weight adds rows and removes none.
    """
    weights = {mix_name(number): exact(source.weight) for number, source in enumerate(data.mix)}
    by_source: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_source[row.labelled.place.source].append(position)
    repeated: list[int] = []
    for name, positions in by_source.items():
        whole, rest = divmod(weights.get(name, Fraction(1)), 1)
        by_hash = sorted(positions, key=lambda position: (rows[position].labelled.prompt, position))
        repeated += positions * whole + sorted(by_hash[: round(rest * len(positions))])
    return repeated


def mixed_plans(
    labeled: LabeledRows, rows: Sequence[Measured[Row]], repeated: Sequence[int]
) -> list[MixedPlan]:
    """Return what the plan records about each source in ``data.mix``. ``repeated`` has the positions of the
    training rows of an epoch in ``rows``."""
    per_epoch = Counter(rows[position].labelled.place.source for position in repeated)
    distinct = Counter(rows[position].labelled.place.source for position in set(repeated))
    return [
        MixedPlan(source_sha256=sha256, rows=distinct[name], rows_per_epoch=per_epoch[name])
        for name, sha256 in zip(map(mix_name, count()), labeled.mix_sha256, strict=False)
    ]
