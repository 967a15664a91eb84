"""Passages of 13 words and near-duplicates of given texts are found in rows, but the template is ignored."""

import pytest

from tunegate_trainer.data.passages import PASSAGE_WORDS, Passages, SimilarTexts
from tunegate_trainer.data.shingles import Template, Words

LETTERS = [f"letter{i}" for i in range(20)]
NO_TEMPLATE = Template.of([])


def words(*texts: str) -> Words:
    return Words.of([(text, "") for text in texts])


def shared(text: str, row: str, template: Template = NO_TEMPLATE) -> int:
    """Return how many passages of the text are in the row."""
    found = Passages(words(text), template).shared_with(words("another row", row))
    assert all((one.row, one.text) == (1, 0) for one in found)
    return sum(one.count for one in found)


@pytest.mark.parametrize(("length", "count"), [(12, 0), (13, 1), (15, 3)])
def test_thirteen_consecutive_words_are_a_passage(length, count):
    assert shared(" ".join(LETTERS), f"before {' '.join(LETTERS[:length])} after") == count


def test_passage_is_found_whatever_its_case_and_punctuation():
    assert shared(" ".join(LETTERS[:13]), ", ".join(LETTERS[:13]).upper()) == 1


def test_passage_is_counted_once_for_a_row_that_repeats_it():
    passage = " ".join(LETTERS[:13])
    assert shared(passage, f"{passage} and {passage}") == 1


def test_passage_with_more_than_three_words_of_the_template_is_ignored():
    template = Template.of([(f"{' '.join(LETTERS[:4])} {i}", "") for i in range(20)])
    assert shared(" ".join(LETTERS[:13]), " ".join(LETTERS[:13]), template) == 0
    assert shared(" ".join(LETTERS[1:14]), " ".join(LETTERS[1:14]), template) == 1


def test_passage_of_most_texts_is_ignored():
    texts = [f"{' '.join(LETTERS[:13])} case{i}" for i in range(4)]
    assert Passages(words(*texts), NO_TEMPLATE).shared_with(words(" ".join(LETTERS[:13]))) == []
    few = Passages(words(*texts[:3]), NO_TEMPLATE).shared_with(words(" ".join(LETTERS[:13])))
    assert [one.text for one in few] == [0, 1, 2]


def test_texts_with_fewer_words_have_no_passages():
    passages = Passages(words("a b c", ""), NO_TEMPLATE)
    assert passages.counts.tolist() == [0, 0]
    assert passages.shared_with(words(" ".join(LETTERS[:PASSAGE_WORDS]))) == []


def test_similar_texts_are_found_in_rows():
    text = " ".join(LETTERS)
    rows = words("another", text.replace("letter7", "changed"), text.upper(), " ".join(LETTERS[:6]))
    assert SimilarTexts(words("unrelated text", text), NO_TEMPLATE).similar_to(rows) == [(1, 1), (2, 1)]


def test_texts_that_share_only_the_template_are_not_similar():
    frame = " ".join(LETTERS)
    template = Template.of([(f"{frame} {i}", "") for i in range(20)])
    assert SimilarTexts(words(f"{frame} one"), template).similar_to(
        words(f"{frame} two", f"{frame} ONE")
    ) == [(1, 0)]
