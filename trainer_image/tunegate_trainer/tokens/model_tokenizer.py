"""Load the tokenizer of a base model, and check its chat template before any row or case is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import answer_end, load_tokenizer, template_arguments


def load_model_tokenizer(folder: Path, arguments: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Load the tokenizer and check its chat template. Raises :class:`UserError` if training cannot use it."""
    try:
        tokenizer = load_tokenizer(folder, arguments=arguments)
    except UserError as error:
        raise UserError(f"model.uri: {error}", error.hint) from error
    except Exception as error:  # tokenizers has no exception class, and damaged files cause many errors
        if getattr(error, "errno", None):  # an error of the disk, not of transformers
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"model.uri: the model's tokenizer cannot be loaded: {reason}",
            "check that the model has a complete tokenizer.json, or all other files of its tokenizer",
        ) from error
    _check_template(tokenizer, arguments)
    return tokenizer


def _check_template(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` if no token of this tokenizer ends an answer, or if ``arguments`` has a name
    that the template does not read."""
    try:
        answer_end(tokenizer)
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
