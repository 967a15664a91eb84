"""The chat template: one that the model knows, in one form for training and evaluation."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.golden import Message, parse_golden
from tunegate_trainer.chat import end_of_turn, is_rewritten, render
from tunegate_trainer.context import Context
from tunegate_trainer.errors import BadDataError, UserError
from tunegate_trainer.evaluate.sets import golden_text

SHOWN_CHARACTERS = 160
"""Of a rendered prompt, in an error."""

Chat = list[Message]


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise :class:`UserError` for a template that ends no turn with a token of this tokenizer."""
    try:
        end_of_turn(tokenizer)
    except UserError as error:
        raise UserError(f"model.uri: {error}", error.hint) from error


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


def rewritten_answers(tokenizer: PreTrainedTokenizerBase, trained: Iterable[Chat]) -> list[str]:
    """A warning where earlier answers of a chat are not learned: the template leaves them out or changes
    them, or a tokenizer without the library's fast form cannot say where they stand."""
    chats = list(trained)
    if not tokenizer.is_fast and any(turn.role == "assistant" for chat in chats for turn in chat):
        return [
            "the model's tokenizer is not a fast one and cannot tell where earlier answers of a chat stand: "
            "only the last answer of each row is learned; a tokenizer.json beside the model changes that"
        ]
    changed = [is_rewritten(tokenizer, chat) for chat in chats]
    if not any(changed):
        return []
    return [
        f"the model's chat template changes earlier answers of {sum(changed)} of {len(changed)} training "
        "rows: they are not learned, the last answer is"
    ]


def _has_system(chat: Chat) -> bool:
    return chat[0].role == "system"


def _shown(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """How a prompt begins, as the model reads it."""
    text = render(tokenizer, chat)
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
