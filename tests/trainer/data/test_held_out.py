"""Near-duplicates stay in the same split, unless they would take over the data."""

from collections import Counter
from fractions import Fraction

from support.usable_rows import measured_pairs, measured_rows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.held_out import join_clusters, without_held_out_turns
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.row_file import RowFile
from tunegate_trainer.data.split import SIDES, split_rows

FRACTION = Fraction(1, 5)


def rows_of(*prompts: str):
    return measured_rows(*({"prompt": prompt, "completion": f"{i}"} for i, prompt in enumerate(prompts)))


def text(name: object) -> str:
    return " ".join(f"word{name}x{i}" for i in range(20))


def joined(rows, pairs=()):
    clusters = find_near_duplicates(Documents(rows, pairs)).clusters.tolist()
    found = join_clusters(rows, pairs, clusters, FRACTION)
    assert not found.left_apart
    return found.rows, found.pairs


def test_edited_copies_are_never_in_another_split_than_their_originals():
    prompts = [text(i) for i in range(60)]
    rows, _ = joined(rows_of(*prompts, *(f"{prompt} edited" for prompt in prompts)))
    split = split_rows(rows, FRACTION)
    sides = {row.labelled.place.number: side for side in SIDES for row in split.side(side)}
    assert all(sides[line] == sides[line + 60] for line in range(1, 61))
    assert split.dev
    assert split.test


def test_split_of_rows_without_near_duplicates_does_not_change():
    rows = rows_of(*(text(i) for i in range(60)))
    assert joined(rows)[0] == rows


def test_pair_stays_in_the_split_of_a_similar_row():
    rows = rows_of(text(1), text(2))
    pair = {"prompt": f"{text(2)}!", "chosen": "yes", "rejected": "no"}
    rows, pairs = joined(rows, measured_pairs(pair))
    assert pairs[0].group == rows[1].group != rows[0].group


def test_groups_are_not_joined_beyond_half_of_the_rows():
    def edited(count: int):
        return [f"{text('same')} edited{i}" for i in range(count)]

    few = rows_of(*edited(20), *(text(i) for i in range(20)))
    clusters = [0] * 20 + list(range(1, 21))
    assert len({row.group for row in join_clusters(few, [], clusters, FRACTION).rows}) == 21
    most = rows_of(*edited(21), *(text(i) for i in range(19)))
    assert join_clusters(most, [], [0] * 21 + list(range(1, 20)), FRACTION).rows == most


def test_each_row_is_decoded_once_to_mask_held_out_answers(monkeypatch):
    def turn(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    begun = [turn("user", "two mugs"), turn("assistant", "mugs: 2")]
    chats = [begun, [*begun, turn("user", "and a lamp"), turn("assistant", "lamps: 1")]]
    rows = measured_rows(*({"messages": chat} for chat in chats))
    decoded = Counter()
    read = RowFile.__getitem__

    def counted(stored, number):
        decoded[number] += 1
        return read(stored, number)

    monkeypatch.setattr(RowFile, "__getitem__", counted)
    kept, answers = without_held_out_turns(rows, {rows[0].labelled.prompt})
    assert max(decoded.values()) == 1
    assert answers == [0, 1]
    assert [row.labelled.row.unlearned for row in kept] == [[], [1]]


def test_only_the_cluster_that_is_too_large_is_left_apart():
    rows = rows_of(*(text(i) for i in range(61)))
    found = join_clusters(rows, [], [0] * 31 + [31 + i // 2 for i in range(30)], FRACTION)
    assert found.left_apart == 31
    assert found.rows[:31] == rows[:31]
    assert len({row.group for row in found.rows[31:]}) == 15
