"""Check whether all prompts follow one template. The rule is in :func:`template_groups.group_prompts`."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tunegate_api.messages import Message
from tunegate_api.meta import summarize
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding
from tunegate_trainer.checks.prompt_parts import system_text, user_text
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.template_groups import Numbers, group_prompts
from tunegate_trainer.data.excerpts import ends_of, start_of
from tunegate_trainer.tokens.lazy_sequence import LazySequence

NAME = "mixed_templates"
SHOWN_TEMPLATES = 5
REPORTED_TEMPLATES = 50
"""Maximum number of templates in data/report.json."""
SHOWN_CHARACTERS = 50
"""Maximum length of a text in the message, in characters."""


@dataclass(frozen=True)
class _PromptTexts(LazySequence[list[Message]]):
    source: UsableRows

    def __len__(self) -> int:
        return len(self.source.rows) + len(self.source.pairs)

    def item(self, index: int) -> list[Message]:
        return self.source.documents.measured(index).labelled.row.prompt

    def place(self, index: int) -> str:
        """Return the place of a prompt."""
        return self.source.documents.place(index)


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Refuse prompts that do not follow the template of most prompts."""
    prompts = _PromptTexts(rows)
    if not len(prompts):
        return
    numbers = group_prompts(prompts)
    outside = np.flatnonzero(numbers)
    if not len(outside):
        return
    templates = _templates(prompts, numbers)
    several_systems = len({template["system"] for template in templates}) > 1
    shown = summarize(
        [_shown(template, several_systems) for template in templates[:SHOWN_TEMPLATES]],
        SHOWN_TEMPLATES,
        total=int(numbers.max()) + 1,
        separator="; ",
        last="; and ",
    )
    share = Fraction(len(outside), len(prompts))
    yield Finding(
        message=f"{len(outside)} of {len(prompts)} prompts ({float(share):.1%}) do not follow the "
        f"template of the others: {shown}",
        count=len(outside),
        share=share,
        examples=[
            f"{prompts.place(int(index))}: {_text(prompts[int(index)])!r}"
            for index in outside[:SHOWN_EXAMPLES]
        ],
        remedy="write all prompts in the template that the model will be served with; if several "
        "templates are intended, set max or the policy of MixedTemplates in data.checks",
        report={"templates": templates},
    )


def _templates(prompts: _PromptTexts, numbers: Numbers) -> list[dict[str, Any]]:
    """Return the templates, the most frequent one first, each with its share and its first prompt."""
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    found = []
    for index, count in list(zip(first.tolist(), counts.tolist(), strict=True))[:REPORTED_TEMPLATES]:
        system = system_text(prompts[index])
        found.append(
            {
                "count": count,
                "share": round(count / len(prompts), 4),
                "example": prompts.place(index),
                "system": None if system is None else start_of(system, SHOWN_CHARACTERS, keep_lines=True),
                "prompt": _text(prompts[index]),
            }
        )
    return found


def _shown(template: dict[str, Any], several_systems: bool) -> str:
    system = ""
    if several_systems:
        given = template["system"]
        system = ", without system turn" if given is None else f", with system turn {given!r}"
    return f"{template['share']:.1%} like {template['example']}{system}: {template['prompt']!r}"


def _text(prompt: list[Message]) -> str:
    """Return the first and the last characters of the first user turn."""
    return ends_of(user_text(prompt), SHOWN_CHARACTERS)
