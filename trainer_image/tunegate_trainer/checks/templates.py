"""Check the chat template before any row is read. All other checks need it, so it is not in their table."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import end_of_turn, template_arguments


def check_template(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` if answers have no end token of this tokenizer, or if the template does not
    read one of ``arguments``."""
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
            f"it reads {', '.join(sorted(reads))}" if reads else "remove them: the template has no arguments",
        )
