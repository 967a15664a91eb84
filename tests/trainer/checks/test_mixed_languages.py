"""The check mixed_languages finds rows in another language than most rows."""

import pytest

from support.usable_rows import NO_CONTEXT, answered, usable_rows
from tunegate_trainer.checks import mixed_languages
from tunegate_trainer.checks.mixed_languages import language_of

TEXTS = {
    "en": "The parcel with the blue mug arrived on the second day of the month, and nothing was broken.",
    "de": "Das Paket mit der blauen Tasse kam am zweiten Tag des Monats an, und nichts war zerbrochen.",
    "fr": "Le colis avec la tasse bleue est arrivé le deuxième jour du mois, et rien n'était cassé.",
    "es": "El paquete con la taza azul llegó el segundo día del mes y no se había roto nada en el camino.",
}


def row(prompt: str, answer: str, i: int) -> dict[str, str]:
    return {"prompt": f"{TEXTS.get(prompt, prompt)} {i}", "completion": f"{TEXTS.get(answer, answer)} {i}"}


def rows_of(*languages: tuple[str, str, int]) -> list[dict[str, str]]:
    """Return rows with the languages of prompt and answer, and how many rows have these."""
    return [row(prompt, answer, i) for prompt, answer, count in languages for i in range(count)]


@pytest.mark.parametrize(
    ("languages", "reason"),
    [
        ([("en", "en", 20), ("en", "de", 1)], "the answer is in de, not in en: Das Paket"),
        ([("en", "en", 20), ("fr", "en", 1)], "the prompt is in fr, not in en: Le colis"),
        ([("de", "de", 20), ("en", "en", 1)], "the answer is in en, not in de: The parcel"),
        ([("en", "yes", 20), ("en", "de", 1)], "the answer is in de, not in en: Das Paket"),
        ([("en", "de", 20), ("en", "en", 1)], "the answer is in en, not in de: The parcel"),
        (
            [("en", "en", 8), ("de", "de", 8), ("fr", "fr", 8), ("fr", "en", 1)],
            "the prompt is in fr, but the answer in en",
        ),
    ],
    ids=["answer", "prompt", "German data", "labels", "translation", "many languages"],
)
def test_row_in_another_language_is_found(languages, reason):
    rows = rows_of(*languages)
    (finding,) = mixed_languages.run(usable_rows(rows), NO_CONTEXT)
    assert finding.count == 1
    assert finding.examples[0].startswith(f"line {len(rows)}: {reason}")


@pytest.mark.parametrize(
    "languages",
    [
        [("en", "de", 20)],
        [("en", "de", 8), ("en", "fr", 8), ("en", "es", 8)],
        [("de", "en", 8), ("fr", "en", 8), ("es", "en", 8)],
        [("en", "en", 8), ("de", "de", 8), ("fr", "fr", 8)],
        [("en", "en", 20), ("en", "Ja.", 3), ("en", '{"artikel": "Tasse", "farbe": "blau", "menge": 2}', 3)],
        [("en", "en", 20), ("en", "```\ngib(das_paket, mit_der, blauen_tasse, am_zweiten, tag)\n```", 3)],
    ],
    ids=["translation", "to many", "from many", "many languages", "short answers", "code"],
)
def test_translations_several_languages_and_code_are_not_found(languages):
    assert mixed_languages.run(usable_rows(rows_of(*languages)), NO_CONTEXT) == []


def test_chosen_answers_of_pairs_are_examined_but_not_rejected_ones():
    pairs = [
        {"prompt": f"mug {i}", "chosen": f"{TEXTS['en']} {i}", "rejected": f"{TEXTS['fr']} {i}"}
        for i in range(20)
    ]
    pairs[7]["chosen"] = TEXTS["de"]
    (finding,) = mixed_languages.run(usable_rows(pairs=pairs), NO_CONTEXT)
    assert finding.examples[0].startswith("line 8 of preference: the answer is in de")


def test_sample_of_many_rows_is_examined_and_always_equal(monkeypatch):
    monkeypatch.setattr(mixed_languages, "MAX_ROWS", 20)
    rows = answered(*(TEXTS["de" if i % 3 == 0 else "en"] for i in range(60)))
    first, second = (mixed_languages.run(rows, NO_CONTEXT) for _ in range(2))
    assert first == second
    assert f"{first[0].count} of 20 rows have" in first[0].message
    assert "(of 60 rows, a sample was examined)" in first[0].message


def test_share_of_a_sample_covers_rows_and_pairs(sound, monkeypatch):
    monkeypatch.setattr(mixed_languages, "MAX_ROWS", 200)
    rows = [row("en", "en", i) for i in range(1900)]
    pairs = [{"prompt": f"{TEXTS['en']} {i}", "chosen": TEXTS["de"], "rejected": "no"} for i in range(100)]
    (finding,) = mixed_languages.run(usable_rows(rows, pairs), sound.context)
    assert 0.02 < float(finding.share) < 0.09


@pytest.mark.parametrize(
    "text",
    ["", "Ja, sehr gerne.", "https://example.com/das/ist/eine/lange/adresse/ohne/sprache", "1234567890 " * 9],
)
def test_text_without_enough_words_has_no_language(text):
    assert language_of(text) is None
