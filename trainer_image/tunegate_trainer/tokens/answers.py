"""What a model has to generate after a prompt, so that a server reads it as a given answer.

One rule for every template: it is what the template itself writes for that turn, behind the prompt that the
template writes for what was asked. docs/adr/0021-the-templates-own-text.md has the cases.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunegate_api.judging.golden import Message, ToolCall
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import (
    CALL_ID,
    AnswerEnd,
    Tools,
    answer_end,
    apply_template,
    common_start,
    encode,
    end_of_call,
    render,
    without_special_tokens,
)
from tunegate_trainer.tokens.reasoning import (
    Reasoning,
    opens_thought,
    reasoning_of,
    split_reasoning,
    without_reasoning,
)

_SHOWN = 120
"""Characters of two texts that an error shows from a little before they part."""


@dataclass(frozen=True)
class Answer:
    """What is generated after a prompt."""

    text: str
    """With the reasoning, and with what the template puts around it and the answer."""
    end: str
    """What is generated behind it, up to the end of the turn."""
    has_reasoning: bool
    """Whether the reasoning that belongs to the answer is in it. True where none does."""


def answer_after(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, tools: Tools = None
) -> Answer:
    """What follows the text that :func:`~tunegate_trainer.tokens.chat.render` gives of ``prompt``.

    Raises :class:`UserError` with both texts where the template does not write the answer behind its prompt.
    """
    return _answer(tokenizer, render(tokenizer, prompt, tools), prompt, answer, tools)


def _answer(
    tokenizer: PreTrainedTokenizerBase, asked: str, prompt: list[Message], answer: Message, tools: Tools
) -> Answer:
    """The same, with the text of the prompt."""
    end = answer_end(tokenizer)
    if not tokenizer.chat_template:
        if answer.tool_calls:
            render(tokenizer, [answer])  # which says why not
        return Answer(answer.content, end.generated, has_reasoning=answer.reasoning_content is None)
    answer = split_reasoning(tokenizer, asked, answer)
    whole, rest = _turn(tokenizer, asked, prompt, answer, tools)
    if rest is None and answer.reasoning_content is not None:
        # The prompt has closed the thought already, as where an argument of the template turns reasoning off.
        plain = answer.model_copy(update={"reasoning_content": None})
        whole, rest = _turn(tokenizer, asked, prompt, plain, tools)
    if rest is None:
        # Some templates word a question anew once it is answered; served is the question as it was asked.
        last = prompt[-1:]
        _, rest = _turn(tokenizer, render(tokenizer, last, tools), last, answer, tools)
    if rest is None or not _says(rest, answer) or _loses_a_call(tokenizer, prompt, answer, whole, tools):
        raise _other_form(asked, whole)
    if answer.tool_calls and not rest.endswith(end.after):
        token = end_of_call(tokenizer, whole)
        end = AnswerEnd(token, token, rest[max(0, rest.rfind(token)) :])
    if not rest.endswith(end.after):
        raise _other_form(asked, whole)
    text, thought = rest.removesuffix(end.after), (answer.reasoning_content or "").strip()
    before_answer = text[: text.rindex(answer.content.strip())] if answer.content.strip() else text
    return Answer(text, end.generated, has_reasoning=thought in before_answer)


def calls_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    calls: list[ToolCall],
    tools: Tools = None,
    content: str = "",
) -> str:
    """What a model that calls just these tools answers, as a scorer sees it: without reasoning and special
    tokens."""
    named = [call.model_copy(update={"id": call.id or CALL_ID}) for call in calls]
    answer = Message(role="assistant", content=content, tool_calls=named)
    text, form = answer_after(tokenizer, prompt, answer, tools).text, reasoning_of(tokenizer)
    if form is not None:
        text = without_reasoning(form, render(tokenizer, prompt, tools), text)
    return without_special_tokens(tokenizer, text)


def _says(text: str, answer: Message) -> bool:
    """Whether a text has what an answer says, and the names of all that it calls."""
    called = Counter(call.function.name for call in answer.tool_calls or ())
    return answer.content.strip() in text and all(text.count(name) >= n for name, n in called.items())


def _loses_a_call(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, whole: str, tools: Tools
) -> bool:
    """Whether a template writes the same without the last call: some write the first one alone."""
    if answer.tool_calls is None or len(answer.tool_calls) == 1:
        return False
    fewer = answer.model_copy(update={"tool_calls": answer.tool_calls[:-1]})
    return whole == apply_template(tokenizer, [*prompt, fewer], add_generation_prompt=False, tools=tools)


def _turn(
    tokenizer: PreTrainedTokenizerBase, asked: str, prompt: list[Message], answer: Message, tools: Tools
) -> tuple[str, str | None]:
    """The text of a whole chat, and what of it follows the text of its prompt, if it does."""
    whole = apply_template(tokenizer, [*prompt, answer], add_generation_prompt=False, tools=tools)
    return whole, _behind(tokenizer, asked, whole, answer)


def _behind(tokenizer: PreTrainedTokenizerBase, asked: str, whole: str, answer: Message) -> str | None:
    """What of the ``whole`` chat follows the prompt; None where it has another beginning."""
    if whole.startswith(asked):
        return whole[len(asked) :]
    form = reasoning_of(tokenizer)
    if form is None or not form.opens:
        return None
    if not opens_thought(asked, form):
        return _behind_closed_thought(asked, whole, form)
    # The prompt opens a thought, and the history of a chat has none, or has it in other white space.
    opened = asked.rstrip()
    if whole.startswith(opened):
        return whole[len(opened) :].lstrip()
    before = opened.removesuffix(form.opens)
    if not whole.startswith(before):
        return None
    thought, said = answer.reasoning_content or "", whole[len(before) :].lstrip()
    if said.startswith(form.closes):
        return thought + said
    begun = _overlap(form.closes, said)
    return f"{thought}\n{form.closes}{said[begun:]}" if begun else f"{thought}\n{form.closes}\n\n{said}"


def _behind_closed_thought(asked: str, whole: str, form: Reasoning) -> str | None:
    """What follows a prompt that ends with an empty thought, where the history of a chat has none."""
    start = asked.rfind(form.opens)
    empty, said = asked[start:], whole[start:].lstrip()
    is_empty = start >= 0 and "".join(empty.split()) == "".join(f"{form.opens}{form.closes}".split())
    if not is_empty or not whole.startswith(asked[:start]) or said.startswith(form.opens):
        return None
    return said[_overlap(empty.rstrip(), said) :].lstrip()


def _overlap(first: str, second: str) -> int:
    """How many characters the second text begins with that the first one ends with."""
    return next(n for n in range(min(len(first), len(second)), -1, -1) if first.endswith(second[:n]))


def _other_form(asked: str, whole: str) -> UserError:
    shared = max(0, len(common_start(asked, whole)) - _SHOWN // 4)
    return UserError(
        "the model's chat template does not render the answer after the prompt: the prompt is "
        f"{_shown(asked, shared)}, but the chat with the answer is {_shown(whole, shared)}",
        "change the answer, or the model's chat template, so that the rendered chat starts with the prompt",
    )


def _shown(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut!r}{'…' if start + _SHOWN < len(text) else ''}"


def example_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, tools: Tools = None
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of what is generated after it, the end of the turn included.

    The prompt's are those that generation starts from. Both together are the tokens of the whole text, unless
    a token of that reaches over the border.
    """
    asked = render(tokenizer, prompt, tools)
    made = _answer(tokenizer, asked, prompt, answer, tools)
    prompt_ids, completion = encode(tokenizer, asked), made.text + made.end
    together = encode(tokenizer, asked + completion)
    if together[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, together[len(prompt_ids) :]
    apart = encode(tokenizer, completion)
    # Of one that puts a space before every text, the two apart are another text.
    if tokenizer.decode(prompt_ids + apart) != tokenizer.decode(together):
        raise UserError(
            f"the model's tokenizer cannot continue the prompt {_shown(asked, max(0, len(asked) - _SHOWN))}: "
            f"the tokens of {_shown(completion, 0)} decode to another text after it",
            "use the tokenizer.json that the model was trained with",
        )
    return prompt_ids, apart


def answered_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    unlearned: Collection[int] = (),
    tools: Tools = None,
) -> list[int]:
    """Which tokens of a prompt are earlier answers but the ``unlearned`` turns, the ends of turns included.

    An answer counts where the template still writes it as it follows what was asked: some drop a part of
    earlier answers, and what stands there then was never to be said. Positions in the tokens that
    :func:`example_tokens` gives; a token that is only partly of an answer is none of it.
    """
    found = _answer_spans(tokenizer, prompt, tools)
    spans = [span for turn, span in found.items() if turn not in unlearned]
    if not spans:
        return []
    offsets = tokenizer(
        render(tokenizer, prompt, tools), add_special_tokens=False, return_offsets_mapping=True
    )["offset_mapping"]
    return [
        i
        for i, (start, end) in enumerate(offsets)
        if start < end and any(first <= start and end <= last for first, last in spans)
    ]


def is_rewritten(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools = None) -> bool:
    """Whether earlier answers of a prompt are not all there as they were given."""
    given = sum(message.role == "assistant" for message in prompt)
    return _can_locate_answers(tokenizer) and len(_answer_spans(tokenizer, prompt, tools)) < given


def _can_locate_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether turns have an end, and tokens a place in the text."""
    return bool(tokenizer.chat_template) and tokenizer.is_fast


def _answer_spans(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools
) -> dict[int, tuple[int, int]]:
    """Where the answers stand in the text of a prompt, by turn: from the first character to behind the
    last."""
    answers = [i for i, message in enumerate(prompt) if message.role == "assistant"]
    if not answers or not _can_locate_answers(tokenizer):
        return {}
    text = render(tokenizer, prompt, tools)
    spans = {}
    for i in answers:
        asked = render(tokenizer, prompt[:i], tools)
        if not text.startswith(asked):
            continue
        try:
            answer = _answer(tokenizer, asked, prompt[:i], prompt[i], tools)
        except UserError:
            continue  # of this turn only the last answer's own check may refuse a row
        said = len(asked) + len(answer.text)
        if text[len(asked) : said] == answer.text:
            # Some templates end the last answer of a chat otherwise than those before.
            ended = said + len(answer.end) if text.startswith(answer.end, said) else said
            spans[i] = len(asked), ended
    return spans
