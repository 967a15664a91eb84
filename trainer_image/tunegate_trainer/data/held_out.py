"""Keep held-out prompts out of training: join groups, mask earlier answers in chats, and check the result."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tunegate_api.messages import Message
from tunegate_trainer.data.parse import prompt_key
from tunegate_trainer.data.split import find_overlaps, join_groups, largest_side
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Pair, Row, RowT


def prompts_of(rows: Sequence[UsableRow[RowT]]) -> list[str]:
    """Return the :func:`prompt_key` of each row or pair."""
    return [measured.labelled.prompt for measured in rows]


def join_prompts(
    rows: Sequence[UsableRow[Row]], pairs: Sequence[UsableRow[Pair]]
) -> tuple[list[UsableRow[Row]], list[UsableRow[Pair]]]:
    """Return the rows and pairs with new groups: groups that share a prompt are joined into one."""
    before = [row.group for row in rows] + [pair.group for pair in pairs]
    after = join_groups(list(zip(before, prompts_of(rows) + prompts_of(pairs), strict=True)))
    return _with_groups(rows, after[: len(rows)]), _with_groups(pairs, after[len(rows) :])


@dataclass(frozen=True)
class JoinedGroups:
    """Rows and pairs with the groups by which they are split."""

    rows: list[UsableRow[Row]]
    pairs: list[UsableRow[Pair]]
    left_apart: int
    """How many rows and pairs are in a cluster whose groups were not joined, because it is too large."""


def join_clusters(
    rows: Sequence[UsableRow[Row]],
    pairs: Sequence[UsableRow[Pair]],
    clusters: Sequence[int],
    fraction: Fraction,
) -> JoinedGroups:
    """Return the rows and pairs with new groups: groups with rows in the same cluster are joined into one.

    ``clusters`` has the cluster of each row, and then of each pair. A joined group that is too large to be
    held out is trained on. At most half of the rows and pairs may be in such groups, because the held-out
    rows would represent only the others. If more would be, the largest of these groups are not joined.
    """
    before = [row.group for row in rows] + [pair.group for pair in pairs]
    after = join_groups([(group, str(cluster)) for group, cluster in zip(before, clusters, strict=True)])
    most = largest_side(len(before), fraction)
    sizes, sizes_before = Counter(after), Counter(before)
    too_large = Counter(  # rows of each joined group that could have been held out before
        group for group, old in zip(after, before, strict=True) if sizes[group] > most >= sizes_before[old]
    )
    apart: set[str] = set()
    excess = too_large.total()
    for group, count in sorted(too_large.items(), key=lambda item: (-item[1], item[0])):
        if 2 * excess <= len(before):
            break
        apart.add(group)
        excess -= count
    after = [old if group in apart else group for group, old in zip(after, before, strict=True)]
    return JoinedGroups(
        _with_groups(rows, after[: len(rows)]),
        _with_groups(pairs, after[len(rows) :]),
        sum(sizes[group] for group in apart),
    )


def _with_groups(rows: Sequence[UsableRow[RowT]], groups: Sequence[str]) -> list[UsableRow[RowT]]:
    """Return the rows with these groups. Unchanged rows are not copied, because there may be a million."""
    return [
        row if row.group == group else replace(row, group=group)
        for row, group in zip(rows, groups, strict=True)
    ]


def without_held_out_turns(
    rows: Sequence[UsableRow[Row]], held: Collection[str]
) -> tuple[list[UsableRow[Row]], list[int]]:
    """Mask each earlier answer in a chat if the turns before it are a held-out prompt.

    ``held`` has the :func:`prompt_key` of each held-out prompt. A chat can start with the same turns as a
    held-out chat, and the answer to these turns must not be trained on. Returns the rows to train on, and the
    number of masked answers in each row.
    """
    found = [_without_turns(measured, held) for measured in rows]
    return [measured for measured, _ in found], [answers for _, answers in found]


def _without_turns(measured: UsableRow[Row], held: Collection[str]) -> tuple[UsableRow[Row], int]:
    """Return the row without held-out answers, and their number. A changed row is stored in the file of
    rows, because there may be a million."""
    labelled = measured.labelled
    if not labelled.has_answers:
        return measured, 0
    row = labelled.row
    turns = [i for i in _answers(row) if i not in row.unlearned and prompt_key(row.prompt[:i]) in held]
    if not turns:
        return measured, 0
    changed = row.model_copy(update={"unlearned": sorted([*row.unlearned, *turns])})
    return replace(measured, labelled=replace(labelled, number=labelled.rows.add(changed))), len(turns)


def learned_prompts(rows: Sequence[UsableRow[RowT]]) -> list[str]:
    """Return the prompts of ``rows`` whose answers are trained on, see :func:`answered_prompts`."""
    return [prompt for measured in rows for prompt in answered_prompts(measured)]


def answered_prompts(measured: UsableRow[Any]) -> list[str]:
    """Return the :func:`prompt_key` of each prompt whose answer is trained on, for one row or pair.

    The first is the prompt of the row or pair. In a chat, the turns before an earlier answer are a prompt
    too, unless this answer is masked.
    """
    return [measured.labelled.prompt, *map(prompt_key, _earlier_prompts(measured))]


def answered_questions(measured: UsableRow[Any]) -> list[str]:
    """Return the :func:`answered_prompts` without their system turn. Empty if there is none."""
    if not measured.labelled.question:
        return []
    earlier = (prompt_key(prompt[1:]) for prompt in _earlier_prompts(measured))
    return [measured.labelled.question, *earlier]


def _earlier_prompts(measured: UsableRow[Any]) -> list[list[Message]]:
    """Return the turns before each earlier answer of a chat that is trained on."""
    row: Row | Pair | None = measured.labelled.row if measured.labelled.has_answers else None
    if not isinstance(row, Row):
        return []
    return [row.prompt[:i] for i in _answers(row) if i not in row.unlearned]


def _answers(row: Row) -> list[int]:
    return [i for i, message in enumerate(row.prompt) if message.role == "assistant"]


def check_disjoint(sides: Mapping[str, list[str]]) -> None:
    """Raise :class:`AssertionError` if a text is in two splits, which would be a bug in Tunegate."""
    overlaps = find_overlaps(dict(sides))
    if overlaps:
        raise AssertionError(f"the split is not disjoint: {overlaps[:3]}")
