"""A difference between two texts is described by words, without secrets and personal data."""

import pytest

from tunegate_trainer.checks.differences import common_passage, difference

TEXT = "Please send the parcel with the blue mug to the new address before the end of this week"
SECRETS = {
    "an address": ("jane.smith@corp-mail.de", "smith"),
    "a card": ("4111 1111 1111 1111", "1111"),
    "an access key": ("AKIAIOSF" + "ODNN7ABCDEFG", "akiaiosfodnn7abcdefg"),
    "a password": ('password = "Tr0ub4dor9x"', "tr0ub4dor9x"),
    "a private key": ("-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpQIBAAKC9xTz8", "miiepqibaakc9xtz8"),
}
"""A text with a secret, and a word of it that must not be shown."""


def test_new_words_are_named_before_missing_ones():
    assert difference(TEXT.replace("blue", "red"), TEXT) == "except for the words red"
    assert difference(TEXT.replace("blue ", ""), TEXT) == "without the words blue"
    assert difference(TEXT.upper(), TEXT) == "except for case, punctuation or white space"


def test_at_most_six_words_are_named():
    new = " ".join(f"new{i}" for i in range(9))
    assert difference(f"{TEXT} {new}", TEXT).endswith("new4, new5 and 3 more")


@pytest.mark.parametrize(("value", "word"), SECRETS.values(), ids=SECRETS)
def test_secrets_and_personal_data_in_a_difference_are_masked(value, word):
    added = f"{TEXT} {value}"
    for shown in (difference(added, TEXT), difference(TEXT, added), common_passage(added, value)):
        assert "words " in shown
        assert word not in shown


def test_only_the_words_of_a_secret_are_masked():
    shown = difference(f"{TEXT} from jane.smith@corp-mail.de", TEXT)
    assert shown.startswith("except for the words from, j…, s…")
    assert "smith" not in shown


def test_common_passage_is_shown_with_its_length():
    assert common_passage(f"Hello. {TEXT}", TEXT) == '18 words "please send the parcel with the …"'
