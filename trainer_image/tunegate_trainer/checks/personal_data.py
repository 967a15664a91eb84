"""Check for personal data in rows: e-mail addresses, telephone numbers, payment cards and bank accounts."""

from typing import Any

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import whole_text
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import masked
from tunegate_trainer.data.personal_values import personal_values
from tunegate_trainer.data.usable import UsableRow

NAME = "personal_data"


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows with an e-mail address, telephone number, payment card number or IBAN in a text.

    Check digits of cards (Luhn) and of IBANs (mod 97) must be valid. Telephone numbers need a +, the form of
    North America, or a word such as "phone" before them. System turns are not read, because they may have
    addresses of the service itself. Messages have only the first characters of a value.
    """
    return share_finding(
        NAME,
        rows,
        _personal_data,
        "personal data",
        "remove the data, or replace it by placeholders such as [EMAIL], because the model can repeat it; if "
        "it is public or invented, raise max of PersonalData in data.checks, or set the policy to Off",
    )


def _personal_data(measured: UsableRow[Any]) -> str | None:
    for type, value in personal_values(whole_text(measured.labelled.row, system=False)):
        return f"{type} {masked(value)}"
    return None
