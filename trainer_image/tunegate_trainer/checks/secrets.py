"""Check for secrets in rows: access keys, tokens, passwords and private keys."""

from typing import Any

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import whole_text
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import masked
from tunegate_trainer.data.secret_values import secret_values
from tunegate_trainer.data.usable import UsableRow

NAME = "secrets"


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows with a secret in any of their texts. Examples in documentation count as secrets too.

    Messages have the type of a secret and its first characters.
    """
    return share_finding(
        NAME,
        rows,
        _secret,
        "a secret",
        "remove these secrets from the data, and revoke them if they are valid, because the model can repeat "
        "them; write placeholders such as <TOKEN> in their place",
    )


def _secret(measured: UsableRow[Any]) -> str | None:
    for type, value in secret_values(whole_text(measured.labelled.row)):
        return f"{type} {masked(value)}"
    return None
