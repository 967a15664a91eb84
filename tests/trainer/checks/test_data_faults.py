"""The generator of faulty data reports exactly the lines that it changed, and gives the same data again."""

import random

import pytest

from support.data_faults import copies, leaks, pairs, shifts, signs, templates
from support.data_faults.clean import SHAPES, DataSet, clean_set, clean_sets, jsonl
from support.data_faults.corpus import corpus
from support.data_faults.injected import Injected, Row
from support.data_faults.secret_values import PERSONAL_DATA, SECRETS
from support.data_faults.similarity import (
    MOST_SIMILAR,
    character_shingles,
    jaccard,
    similar_pairs,
    word_shingles,
    words_of,
)
from support.fault_measure import Counts, compare
from support.records import records_of
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.parse import parse_pairs, parse_rows

pytestmark = pytest.mark.slow
SIZE = 150


@pytest.fixture(scope="module")
def data() -> DataSet:
    return clean_set("continuations", size=SIZE)


@pytest.fixture(scope="module")
def labels() -> DataSet:
    return clean_set("labels", size=SIZE)


@pytest.fixture(scope="module")
def preferences() -> tuple[Row, ...]:
    return pairs.clean_pairs(size=SIZE)


INJECTORS = {
    "exact": lambda data: copies.exact_duplicates(data, count=20),
    **{
        edit: lambda data, edit=edit: copies.near_duplicates(data, edit=edit, count=20)
        for edit in copies.FORMAT_EDITS
    },
    "words": lambda data: copies.near_duplicates(data, edit="words", count=20, similarity=0.8),
    **{kind: lambda data, kind=kind: leaks.leaks(data, kind=kind, count=12) for kind in leaks.KINDS},
    "template": lambda data: templates.second_template(data, wrapper="alpaca", share=0.1),
    "refusals": lambda data: signs.refusals(data, count=15),
    "truncated": lambda data: signs.truncated_answers(data, count=15),
    "language": lambda data: signs.other_languages(data, language="fr", count=15),
    **{kind: lambda data, kind=kind: signs.secrets(data, kind=kind, count=10) for kind in SECRETS},
    **{
        kind: lambda data, kind=kind: signs.personal_data(data, kind=kind, count=10) for kind in PERSONAL_DATA
    },
    "injection": lambda data: signs.prompt_injections(data, count=10),
}


@pytest.mark.exhaustive
def test_corpus_has_at_least_ten_thousand_distinct_passages():
    texts = [passage.text.lower() for passage in corpus().passages]
    assert len(texts) == len(set(texts)) >= 10_000
    assert len(corpus().functions) >= 3_000


@pytest.mark.parametrize("shape", SHAPES)
def test_clean_sets_have_no_similar_rows_and_are_parsed(shape):
    data = clean_set(shape, size=SIZE)
    rows = [*data.rows, *data.spare, *data.production]
    assert len(data.rows) == SIZE
    assert data == clean_set(shape, size=SIZE) != clean_set(shape, size=SIZE, seed=1)
    texts = [data.text(row) for row in rows]
    for shingles in (word_shingles, character_shingles):
        assert not similar_pairs(texts, MOST_SIMILAR, shingles)
    assert len({row["prompt"] for row in rows}) == len(rows)
    parsed = parse_rows(records_of(*jsonl(data.rows, data.system).splitlines()), Columns(), None)
    assert (len(parsed.rows), parsed.bad, parsed.duplicates) == (SIZE, [], [])


def test_twenty_one_clean_sets_are_all_different():
    texts = {jsonl(data.rows, data.system) for data in clean_sets(size=60)}
    assert len(texts) == 21


@pytest.mark.parametrize("name", INJECTORS)
def test_injected_lines_are_those_that_differ_from_the_clean_set(data, name):
    found = INJECTORS[name](data)
    clean = [row for line, row in enumerate(found.rows, start=1) if line not in found.faulty]
    unchanged = list(data.rows)
    if len(found.rows) == len(data.rows):
        unchanged = [row for line, row in enumerate(data.rows, start=1) if line not in found.faulty]
        assert all(found.rows[line - 1] != data.rows[line - 1] for line in found.faulty)
    assert clean == unchanged
    assert found.faulty
    assert found == INJECTORS[name](data)


@pytest.mark.parametrize("similarity", [0.9, 0.8, 0.7])
def test_reworded_rows_are_as_similar_to_their_originals_as_asked(data, similarity):
    found = copies.near_duplicates(data, edit="words", count=15, similarity=similarity)
    for line, original in found.originals.items():
        texts = [data.text(found.rows[number - 1]) for number in (line, original)]
        assert similarity <= jaccard(*texts) < 1
        assert original < line
    # No other pair of rows is similar.
    pairs = similar_pairs([data.text(row) for row in found.rows], MOST_SIMILAR)
    assert {second + 1: first + 1 for first, second in pairs} == found.originals


@pytest.mark.parametrize("edit", ["case", "punctuation", "spaces"])
def test_format_edits_keep_the_words_of_a_row(data, edit):
    found = copies.near_duplicates(data, edit=edit, count=20)
    for line, original in found.originals.items():
        copy, row = (found.rows[number - 1] for number in (line, original))
        assert copy != row
        assert words_of(data.text(copy)) == words_of(data.text(row))


def test_similar_but_different_rows_are_below_the_similarity_of_duplicates(data):
    found = copies.similar_but_different(data, count=10)
    assert not found.faulty
    assert len(found.rows) == SIZE + 20
    similar = [
        jaccard(*(data.content(found.rows[number - 1]) for number in link))
        for link in found.originals.items()
    ]
    assert all(0.25 <= value < 0.5 for value in similar)


@pytest.mark.parametrize("edit", [None, "case", "spaces"])
def test_contradictory_labels_are_given_to_equal_prompts(labels, edit):
    found = copies.contradictory_labels(labels, count=10, edit=edit)
    assert len(found.faulty) == 20
    by_prompt: dict[str, set[str]] = {}
    for row in found.rows:
        by_prompt.setdefault(" ".join(words_of(row["prompt"])), set()).add(row["completion"])
    assert sum(len(answers) > 1 for answers in by_prompt.values()) == 10


def test_unbalanced_labels_have_the_share_of_one_label():
    found = copies.unbalanced_labels(clean_set("labels", size=400), share=0.95)
    assert len({found.rows[line - 1]["completion"] for line in found.faulty}) == 1
    assert 0.95 <= len(found.faulty) / len(found.rows) < 1


@pytest.mark.parametrize("kind", leaks.KINDS)
def test_leaked_cases_share_thirteen_words_with_a_training_row(data, kind):
    found = leaks.leaks(data, kind=kind, count=12)
    assert found.held_out == data.spare
    assert len(found.leaked) == len(found.faulty) == 12
    runs = {run for row in found.rows for run in word_shingles(f"{data.text(row)}", 13)}
    contents = {" ".join(words_of(data.content(row))) for row in found.rows}
    for line, row in enumerate(data.spare, start=1):
        content = data.content(row)
        shared = " ".join(words_of(content)) in contents or bool(word_shingles(content, 13) & runs)
        assert shared == (line in found.leaked)


def test_golden_cases_of_held_out_rows_are_valid(data):
    cases = leaks.golden_cases(data.spare)
    assert [GoldenCase.model_validate(case).prompt for case in cases] == [row["prompt"] for row in data.spare]


@pytest.mark.parametrize("wrapper", templates.WRAPPERS)
def test_second_template_keeps_the_content_of_a_share_of_rows(labels, wrapper):
    found = templates.second_template(labels, wrapper=wrapper, share=0.2)
    assert len(found.faulty) == SIZE // 5
    before, after = labels.template.split("{}")
    for line, (row, clean) in enumerate(zip(found.rows, labels.rows, strict=True), start=1):
        assert labels.content(clean) in row["prompt"]
        assert (row["prompt"].startswith(before) and row["prompt"].endswith(after)) == (
            line not in found.faulty
        )


@pytest.mark.parametrize("system", templates.SYSTEM_PROMPTS)
def test_second_system_prompt_is_in_the_reported_chats_only(system):
    data = clean_set("chats", size=SIZE)
    chats, faulty = templates.second_system_prompt(data, system=system, share=0.1)
    first = [chat["messages"][0] for chat in chats]
    own = {"role": "system", "content": data.system}
    assert {line for line, turn in enumerate(first, start=1) if turn != own} == faulty
    assert len(faulty) == SIZE // 10


@pytest.mark.parametrize("kind", shifts.KINDS)
def test_shifts_have_disjoint_rows_and_the_given_share_from_elsewhere(kind):
    full, half = (shifts.shift(kind, size=SIZE, share=share) for share in (1, 0.5))
    assert full.shifted == (kind != "none")
    assert full == shifts.shift(kind, size=SIZE)
    for found in (full, half):
        assert len(found.rows) == len(found.production) == SIZE
        assert not {row["prompt"] for row in found.rows} & {row["prompt"] for row in found.production}
    if kind == "length":
        long = [len(row["prompt"].split()) >= 35 for row in half.production]
        assert sum(long) == SIZE // 2


@pytest.mark.parametrize("check", signs.HARMLESS)
def test_harmless_sentences_change_rows_but_are_no_fault(data, check):
    found = signs.harmless(data, check=check, count=10)
    assert not found.faulty
    assert sum(row != clean for row, clean in zip(found.rows, data.rows, strict=True)) == 10


def test_truncated_answers_are_beginnings_without_a_final_full_stop(data):
    found = signs.truncated_answers(data, count=15)
    for line in found.faulty:
        answer, whole = found.rows[line - 1]["completion"], data.rows[line - 1]["completion"]
        assert whole.startswith(answer)
        assert not answer.endswith((".", ")"))


PAIR_INJECTORS = {
    "equal": lambda rows: pairs.equal_answers(rows, count=20),
    "near": lambda rows: pairs.near_equal_answers(rows, count=20),
    "truncated": lambda rows: pairs.equal_after_truncation(rows, words=64, count=20),
    "contradictory": lambda rows: pairs.contradictory_pairs(rows, count=20),
    "longer": pairs.length_bias,
    "repeated": pairs.repeated_rejected,
}


@pytest.mark.parametrize("name", PAIR_INJECTORS)
def test_faulty_pairs_are_exactly_the_reported_lines(preferences, name):
    found = PAIR_INJECTORS[name](preferences)
    lines = {line for line in range(1, len(found.rows) + 1) if _has_fault(found, line, name)}
    if name == "longer":  # some pairs are like that by chance
        lines -= {line for line in lines if found.rows[line - 1] == preferences[line - 1]} - found.faulty
    assert lines == found.faulty
    assert found == PAIR_INJECTORS[name](preferences)


@pytest.mark.parametrize("name", sorted(PAIR_INJECTORS))
def test_clean_pairs_have_no_fault_of_any_kind(preferences, name):
    clean = Injected(preferences, frozenset())
    assert sum(_has_fault(clean, line, name) for line in range(1, SIZE + 1)) <= (
        SIZE // 4 if name == "longer" else 0
    )
    parsed = parse_pairs(records_of(*jsonl(preferences).splitlines()), Columns(), None)
    assert (len(parsed.rows), parsed.bad) == (SIZE, [])
    words = [(len(row["chosen"].split()), len(row["rejected"].split())) for row in preferences]
    assert 0.4 < sum(chosen > rejected for chosen, rejected in words) / SIZE < 0.6


def _has_fault(found: Injected, line: int, name: str) -> bool:
    row = found.rows[line - 1]
    chosen, rejected = (words_of(row[field]) for field in ("chosen", "rejected"))
    if name == "equal":
        return chosen == rejected
    if name == "near":
        return jaccard(row["chosen"], row["rejected"]) > 0.5
    if name == "truncated":
        return row["chosen"].split()[:64] == row["rejected"].split()[:64]
    if name == "contradictory":
        return any(
            (row["prompt"], row["chosen"]) == (other["prompt"], other["rejected"]) for other in found.rows
        )
    if name == "longer":
        return len(row["chosen"].split()) >= pairs.LONGER * len(row["rejected"].split())
    return sum(row["rejected"] == other["rejected"] for other in found.rows) > 1


def test_all_generated_secrets_and_personal_data_differ_between_seeds():
    for make in SECRETS.values():
        assert make(random.Random(1)) == make(random.Random(1)) != make(random.Random(2))


def test_precision_and_recall_count_right_wrong_and_missed_lines():
    counts = compare({1, 2, 3, 4}, {3, 4, 5}) + compare({7}, {7})
    assert counts == Counts(right=3, wrong=2, missed=1)
    assert (counts.precision, counts.recall) == (0.6, 0.75)
    assert (compare((), ()).precision, compare((), ()).recall) == (1, 1)
