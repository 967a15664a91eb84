"""Check for gates whose prompts all have a system turn if no training prompt has one, or the reverse."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import Message
from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.data.parse import has_system
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.chat import render

NAME = "system_turns"
SHOWN_CHARACTERS = 160
"""Maximum length of a rendered prompt in an error, in characters."""

Chat = list[Message]


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse a gate if all its cases have a system turn and no training prompt has one, or if none of its
    cases has one and every training prompt has one."""
    trained: list[UsableRow[Any]] = [*rows.rows.train, *rows.pairs.train]
    trained_with_system = {has_system(measured.labelled.row.prompt) for measured in trained}
    for gate, cases in context.golden.items():
        asked = [case.turns for case in cases]
        asked_with_system = {has_system(chat) for chat in asked}
        if not asked or not trained or asked_with_system & trained_with_system:
            continue
        whose = "the gate's cases have" if True in asked_with_system else "training rows have"
        yield Finding(
            message=f"the prompts of EvalGate {gate} differ from training prompts: only {whose} a system "
            f"turn; a training prompt is {_shown(context.tokenizer, trained[0].labelled.row.prompt)}, "
            f"a golden prompt is {_shown(context.tokenizer, asked[0])}",
            count=len(asked),
            remedy="use the system turn that the model will be served with in both rows and cases; if "
            "prompts with and without it are intended, add at least one row or case of the other kind",
        )


def _shown(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """Return the first characters of a rendered prompt, for an error."""
    return repr(start_of(render(tokenizer, chat), SHOWN_CHARACTERS, keep_lines=True))
