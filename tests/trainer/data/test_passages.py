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


def test_passage_with_over_three_template_words_is_ignored():
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


CHINESE = "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。"
THAI = (
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ "
    "ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ"
)


@pytest.mark.parametrize("name", ["กรุงเทพมหานคร", "中华人民共和国国家标准化管理委员会"])
def test_long_name_in_a_script_without_spaces_is_no_passage(name):
    assert shared(f"{name} is old", f"We met in {name}") == 0


@pytest.mark.parametrize("text", [CHINESE, THAI])
def test_copied_text_in_a_script_without_spaces_shares_passages(text):
    assert shared(text, f"Translate: {text} Thanks.") == Passages(words(text), NO_TEMPLATE).counts[0] > 5


@pytest.mark.parametrize(("script", "length"), [(CHINESE.replace(",", "").replace("。", ""), 30), (THAI, 50)])
def test_passage_in_a_script_without_spaces_has_this_many_characters(script, length):
    ends = [i + 1 for i, character in enumerate(script) if character.isalpha()]
    assert shared(script, script[: ends[length - 1]]) == 1
    assert shared(script, script[: ends[length - 2]]) == 0


def test_marks_do_not_belong_to_a_passage():
    assert shared(THAI, THAI.replace("\u0e48", "").replace("\u0e34", "")) > 0
    assert shared(THAI, "\u0e48" * 1000 + THAI) == shared(THAI, THAI)


def test_passage_of_a_mixed_text_adds_up_words_and_characters():
    text = f"{' '.join(LETTERS[:7])} {CHINESE[:6]}{CHINESE[7:15]}"  # 7 words and 14 characters
    assert shared(text, text) == 1
    assert shared(text, text[:-1]) == 0
