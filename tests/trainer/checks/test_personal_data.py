"""The check personal_data finds addresses and numbers of people, and does not show them."""

import pytest

from support.usable_rows import NO_CONTEXT, chat_of, prompted, usable_rows
from tunegate_trainer.checks import personal_data
from tunegate_trainer.data.personal_values import is_iban, is_luhn, personal_values


@pytest.mark.parametrize(
    ("text", "type", "shown"),
    [
        ("anna.adams@example.com", "e-mail address", "anna…"),
        ("PEDRO.PEREZ@EXAMPLE.COM", "e-mail address", "PEDR…"),
        ("Pedro@Example.De", "e-mail address", "Pedr…"),
        ("<mailto:luis@mail.example.de>", "e-mail address", "luis…"),
        ("E-mail:mei_chen+orders@example.org.", "e-mail address", "mei_…"),
        ("+1 202-555-0123", "telephone number", "+1 2…"),
        ("+44 (0)20 7946 0123", "telephone number", "+44 …"),
        ("0049 30 1234567", "telephone number", "0049…"),
        ("(202) 555-0123", "telephone number", "(202…"),
        ("202-555-0123", "telephone number", "202-…"),
        ("Tel.: 030 1234567", "telephone number", "030…"),
        ("phone number is 07700 900123", "telephone number", "0770…"),
        ("4111 1111 1111 1111", "payment card number", "4111…"),
        ("378282246310005", "payment card number", "3782…"),
        ("DE89 3704 0044 0532 0130 00", "IBAN", "DE89…"),
        ("GB29NWBK60161331926819", "IBAN", "GB29…"),
        ("https://example.com anna.adams@example.com", "e-mail address", "anna…"),
        ("BE68 5390 0754 7034 BIC KREDBEBB", "IBAN", "BE68…"),
        ("BE68539007547034 BIC KREDBEBB", "IBAN", "BE68…"),
        ("account AB12 3456 BE68 5390 0754 7034", "IBAN", "BE68…"),
    ],
)
def test_personal_data_is_found_by_its_type_and_masked(text, type, shown):
    (finding,) = personal_data.run(prompted("1 mug", f"Send it to {text}"), NO_CONTEXT)
    assert finding.examples == [f"line 2: {type} {shown}"]


@pytest.mark.parametrize(
    "text",
    [
        "Write to [EMAIL], user@example.com or noreply@example.com.",
        "Clone git@example.com:mugs/orders.git with package@1.2.3",
        "postgresql://reader:word@db.example.com/orders",
        "Use @property and compute x @ y.T or a@b.to(device).",
        "The server listens at 192.0.2.17:8080 since 2024-11-28T10:15:00+02:00.",
        "The table has 12,345,678 rows, and version 2024.11.28 is 3.141592653589793 times larger.",
        "The commit is 4111111111111111aaaa, and the ISBN is 978-3-16-148410-0.",
        "Card 4111 1111 1111 1112 and account DE88 3704 0044 0532 0130 00 are wrong.",
        "The order 030 1234567 has the number 01234567890.",
        "The sum is 1+12345678901 and 10 - 202-555-01234.",
        "0000 0000 0000 0000",
    ],
)
def test_text_that_only_resembles_personal_data_is_not_found(text):
    assert personal_data.run(prompted(text), NO_CONTEXT) == []


def test_address_in_the_system_turn_is_not_found():
    system, user = "Support is luis@example.com.", "Mail luis@example.com, please."
    assert (
        personal_data.run(
            usable_rows([chat_of(("system", system), ("user", "mug"), ("assistant", "yes"))]), NO_CONTEXT
        )
        == []
    )
    assert personal_data.run(
        usable_rows([chat_of(("system", system), ("user", user), ("assistant", "yes"))]), NO_CONTEXT
    )


def test_personal_data_in_a_rejected_answer_is_found():
    pair = {"prompt": "1 mug", "chosen": "yes", "rejected": "Ask luis@example.com."}
    assert personal_data.run(usable_rows(pairs=[pair]), NO_CONTEXT)


def test_each_of_two_neighboring_ibans_is_found():
    text = "BE68 5390 0754 7034 DE89 3704 0044 0532 0130 00"
    assert [value for _, value in personal_values(text)] == [text[:19], text[20:]]


@pytest.mark.parametrize("wrong", range(10))
def test_check_digits_accept_one_of_ten_digits(wrong):
    assert is_luhn(f"411111111111111{wrong}") == (wrong == 1)
    assert is_iban(f"DE8937040044053201300{wrong}") == (wrong == 0)
