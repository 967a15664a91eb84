"""The chat template: one that the model knows, in one form for training and evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.judging.golden import Message, parse_golden
from tunegate_trainer.evaluate.sets import golden_text
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.tokens.answers import answer_after, is_rewritten
from tunegate_trainer.tokens.chat import end_of_turn, render, template_arguments
from tunegate_trainer.tokens.reasoning import reasoning_of, split_reasoning
from tunegate_trainer.tokens.rows import Row

SHOWN_CHARACTERS = 160
"""Of a rendered prompt, in an error."""

Chat = list[Message]


def check_template(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` for a template that ends no turn with a token of this tokenizer, and for
    ``arguments`` that it does not read."""
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
            f"model.chatTemplateArgs: the model's chat template reads no {' and no '.join(unknown)}",
            f"it reads {', '.join(sorted(reads))}" if reads else "leave them out: it has no arguments",
        )


def check_one_form(context: Context, tokenizer: PreTrainedTokenizerBase, trained: Sequence[Chat]) -> None:
    """Raise :class:`BadDataError` where a gate asks in a form that is never trained: all of its cases have a
    system turn and no training prompt has, or the other way round."""
    for gate in context.request.gates:
        text = golden_text(context.root, gate.name, gate.spec.golden.source)
        asked = [case.turns for case in parse_golden(text)]
        forms = {_has_system(chat) for chat in asked}
        if not asked or not trained or forms & {_has_system(chat) for chat in trained}:
            continue
        whose = "its cases have" if True in forms else "training rows have"
        raise BadDataError(
            f"EvalGate {gate.name} asks in another form than is trained, for only {whose} a system turn: "
            f"trained is {_shown(tokenizer, trained[0])}, asked {_shown(tokenizer, asked[0])}",
            "give rows and cases the same system turn, as the model will be asked; where both forms are "
            "meant, one row or case of the other form says so",
        )


def rewritten_answers(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[str]:
    """A warning where earlier answers of a chat are not learned: the template leaves them out or changes
    them, or a tokenizer without the library's fast form cannot say where they stand."""
    if not tokenizer.is_fast and any(turn.role == "assistant" for row in rows for turn in row.prompt):
        return [
            "the model's tokenizer is not a fast one and cannot tell where earlier answers of a chat stand: "
            "only the last answer of each row is learned; a tokenizer.json beside the model changes that"
        ]
    changed = [is_rewritten(tokenizer, row.prompt, row.tools) for row in rows]
    if not any(changed):
        return []
    return [
        f"the model's chat template changes earlier answers of {sum(changed)} of {len(changed)} training "
        "rows: they are not learned, the last answer is"
    ]


def lost_reasoning(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[str]:
    """A warning where the reasoning that rows carry is not trained, since the template does not write it."""
    given = [row for row in rows if _has_reasoning(tokenizer, row)]
    lost = sum(not answer_after(tokenizer, row.prompt, row.answer, row.tools).has_reasoning for row in given)
    if not lost:
        return []
    return [
        f"the reasoning of {lost} of {len(rows)} training rows is not learned: the model's chat template, "
        "with the arguments that it has, does not write it"
    ]


def _has_reasoning(tokenizer: PreTrainedTokenizerBase, row: Row) -> bool:
    form = reasoning_of(tokenizer)
    if row.reasoning is not None or form is None or form.closes not in row.completion:
        return row.reasoning is not None
    asked = render(tokenizer, row.prompt, row.tools)
    return split_reasoning(tokenizer, asked, row.answer).reasoning_content is not None


def _has_system(chat: Chat) -> bool:
    return chat[0].role == "system"


def _shown(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """How a prompt begins, as the model reads it."""
    text = render(tokenizer, chat)
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
