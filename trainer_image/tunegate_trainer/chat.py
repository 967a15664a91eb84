"""The one way a chat becomes text and tokens, in training and evaluation alike."""

import re
from collections.abc import Collection
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from tunegate_api.golden import Message
from tunegate_trainer.errors import UserError

TODAY = date(2026, 1, 1)
"""What templates are told that ask for the date. It never changes: rows, cases and attempts of all days are
rendered alike, and so a resumed run sees what it saw, and a job the prompts that an earlier one was judged
by."""
_ASKS_FOR_DATE = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)"""
)
_ANSWER = "TUNEGATE-ANSWER"
_TOKEN = re.compile(r"<\|?[^<>|\s]+\|?>")
"""What special tokens of chats look like."""
_TEMPLATE_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""How a template, which is a small program, ends on a chat that it was not made for."""


def load_tokenizer(folder: Path, base_model: Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer in ``folder``; of several chat templates with the one called default.

    Its class, and with it how text becomes tokens, depends on the model's configuration: of an adapter, whose
    folder has none, it is that of ``base_model``. Raises :class:`UserError` where no template is the default.
    """
    described = (
        {"config": AutoConfig.from_pretrained(base_model, trust_remote_code=False)} if base_model else {}
    )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, **described
    )
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        if "default" not in templates:
            raise UserError(
                f"the model has the chat templates {', '.join(sorted(templates))}, and none called default",
                "keep the one to train with, as chat_template.jinja",
            )
        tokenizer.chat_template = templates["default"]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """The prompt text that a completion follows.

    With a chat template: the template with its generation prompt. Without one: the one message as it is. The
    text holds every special token; encode it with :func:`encode`.

    Raises :class:`UserError` where the template refuses the messages, or fails on them, and for a chat of
    several turns that no template tells apart.
    """
    if not tokenizer.chat_template:
        if len(messages) > 1:
            raise UserError(
                f"a chat of {len(messages)} turns to answer, and the model has no chat template, so nothing "
                "would tell the turns apart",
                "use the model's instruct version, or put a chat_template.jinja beside it",
            )
        return _leading_token(tokenizer) + "".join(message.content for message in messages)
    return _apply_template(tokenizer, messages, add_generation_prompt=True)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of text from :func:`render`, or of a completion: nothing is added at its ends."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What ends a completion: the special token that the chat template puts after an answer, else eos.

    Raises :class:`UserError` where there is neither, and for a template of another model: one that ends an
    answer with what looks like a token, and is none of this tokenizer's.
    """
    return _end_of_turn(tokenizer, str(tokenizer.chat_template or ""), str(tokenizer.eos_token or ""))


@lru_cache(maxsize=4)  # asked for every row, and a tokenizer lists all its added tokens anew each time
def _end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str, eos: str) -> str:
    if template:
        turns = [Message(role="user", content="?"), Message(role="assistant", content=_ANSWER)]
        _, found, after = _apply_template(tokenizer, turns, add_generation_prompt=False).rpartition(_ANSWER)
        ids = encode(tokenizer, after.strip()) if found else []
        added = tokenizer.added_tokens_decoder
        if ids and ids[0] in added:
            return added[ids[0]].content
        looks_like_one = _TOKEN.match(after.strip()) if found else None
        if looks_like_one and looks_like_one[0] != eos:
            raise UserError(
                f"the chat template ends an answer with {looks_like_one[0]}, which the tokenizer knows as no "
                "token: it is another model's template",
                "use the template that the model was made with, or add the token to tokenizer and model",
            )
    if not eos:
        raise UserError(
            "the tokenizer has no end-of-sequence token and its chat template ends a turn with none",
            "set eos_token in the model's tokenizer_config.json",
        )
    return eos


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, model: Any) -> list[int]:
    """Every token at which generation ends: the end of a turn, and what the own config of ``model``, a
    ``PreTrainedModel``, names."""
    generation_config: Any = model.generation_config
    named = generation_config.eos_token_id if generation_config is not None else None
    ids = [*encode(tokenizer, end_of_turn(tokenizer)), tokenizer.eos_token_id]
    ids += named if isinstance(named, list) else [named]
    return sorted({i for i in ids if isinstance(i, int)})


def example_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], completion: str
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of its completion, the end of the turn included.

    The two are encoded apart, so the prompt's tokens are those that generation starts from.
    """
    return encode(tokenizer, render(tokenizer, prompt)), encode(
        tokenizer, completion + end_of_turn(tokenizer)
    )


def answered_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], unlearned: Collection[int] = ()
) -> list[int]:
    """Which tokens of a prompt are earlier answers but the ``unlearned`` turns, the ends of turns included.

    An answer counts where the template still writes it as it follows what was asked: some drop a part of
    earlier answers, and what stands there then was never to be said. Positions in the tokens that
    :func:`example_tokens` gives; a token that is only partly of an answer is none of it.
    """
    found = _answer_spans(tokenizer, prompt)
    spans = [span for turn, span in found.items() if turn not in unlearned]
    if not spans:
        return []
    offsets = tokenizer(render(tokenizer, prompt), add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    return [
        i
        for i, (start, end) in enumerate(offsets)
        if start < end and any(first <= start and end <= last for first, last in spans)
    ]


def is_rewritten(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> bool:
    """Whether earlier answers of a prompt are not all there as they were given."""
    given = sum(message.role == "assistant" for message in prompt)
    return _can_tell_answers(tokenizer) and len(_answer_spans(tokenizer, prompt)) < given


def _can_tell_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether turns have an end, and tokens a place in the text."""
    return bool(tokenizer.chat_template) and tokenizer.is_fast


def _answer_spans(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> dict[int, tuple[int, int]]:
    """Where the answers stand in the text of a prompt, by turn: from the first character to behind the
    last."""
    answers = [i for i, message in enumerate(prompt) if message.role == "assistant"]
    if not answers or not _can_tell_answers(tokenizer):
        return {}
    text, end = render(tokenizer, prompt), end_of_turn(tokenizer)
    spans = {}
    for i in answers:
        asked = render(tokenizer, prompt[:i])
        # Templates put white space around what is said, or take it away.
        said = re.compile(rf"\s*{re.escape(prompt[i].content.strip())}\s*{re.escape(end)}")
        found = said.match(text, len(asked)) if text.startswith(asked) else None
        if found:
            spans[i] = found.span()
    return spans


def _leading_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that this tokenizer puts before any text, as a text; empty if it puts none."""
    ids = tokenizer.encode("")
    return str(tokenizer.bos_token) if ids[:1] == [tokenizer.bos_token_id] and ids else ""


def _apply_template(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, add_generation_prompt: bool
) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                chat_template=_without_clock(str(tokenizer.chat_template)),
            )
        )
    except _TEMPLATE_FAILURES as error:
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"the model's chat template refuses a chat: {said}",
            "change the chat, or the template that comes with the model",
        ) from error


@lru_cache(maxsize=4)
def _without_clock(template: str) -> str:
    """The template with a fixed date where it asks for that of today. What it is told is data, so that no
    function of ours could take the place of the clock."""
    return _ASKS_FOR_DATE.sub(lambda asked: repr(TODAY.strftime(asked["format"])), template)
