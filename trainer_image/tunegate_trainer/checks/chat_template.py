"""Check the chat template before any row is read. All other checks need a valid template, so this check is
not in the table of checks."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import end_of_turn, template_arguments


def check_template(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` if no token of this tokenizer ends an answer, or if ``arguments`` has a name
    that the template does not read."""
    try:
        end_of_turn(tokenizer)
    except UserError as error:
        raise UserError(f"model.uri: {error}", error.hint) from error
    if not arguments:
        return
    reads = template_arguments(str(tokenizer.chat_template or ""), arguments)
    unknown = [name for name in sorted(arguments) if name not in reads]
    if unknown:
        raise UserError(
            f"model.chatTemplateArgs: the model's chat template does not read {' or '.join(unknown)}",
            f"the template reads: {', '.join(sorted(reads))}"
            if reads
            else "remove model.chatTemplateArgs: the template has no arguments",
        )
