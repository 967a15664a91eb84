"""The text that a model must generate after a prompt to give a certain answer.

The rule is the same for every chat template: a completion is the text that the template itself renders for
the assistant turn, after the text that it renders for the earlier turns.
docs/adr/0021-the-templates-own-text.md describes the cases.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import Message, ToolCall
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import (
    CALL_ID,
    AnswerEnd,
    Tools,
    answer_end,
    apply_template,
    common_prefix,
    encode,
    end_of_call,
    render,
    without_special_tokens,
)
from tunegate_trainer.tokens.reasoning import (
    ReasoningMarks,
    opens_reasoning,
    reasoning_marks,
    split_reasoning,
    without_reasoning,
)
from tunegate_trainer.tokens.rows import Row

_SHOWN = 120
"""Maximum number of characters of a text in an error. The shown part starts a little before the first
difference."""


@dataclass(frozen=True)
class Answer:
    """The completion that the chat template renders for a given answer: what a model must generate after the
    prompt to give this answer."""

    text: str
    """The reasoning and the answer, with the delimiters that the template puts around them."""
    end: str
    """The text after the answer, up to and including the token that ends the turn."""
    has_reasoning: bool
    """Whether the rendered text contains the answer's reasoning. Also True if the answer has no reasoning."""


def answer_after(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, tools: Tools = None
) -> Answer:
    """Return the completion for ``answer``: the text that a model must generate after the rendered
    ``prompt``.

    The prompt is rendered by :func:`~tunegate_trainer.tokens.chat.render`. Raises :class:`UserError`, with
    the texts of prompt and chat, if the rendered chat does not continue the rendered prompt with the whole
    answer and the end of its turn.
    """
    return _answer(tokenizer, render(tokenizer, prompt, tools), prompt, answer, tools)


def _answer(
    tokenizer: PreTrainedTokenizerBase, prompt_text: str, prompt: list[Message], answer: Message, tools: Tools
) -> Answer:
    """Implement :func:`answer_after` for a prompt that is already rendered as ``prompt_text``."""
    end = answer_end(tokenizer)
    if not tokenizer.chat_template:
        if answer.tool_calls:
            render(tokenizer, [answer])  # raises the error that explains why
        return Answer(answer.content, end.generated, has_reasoning=answer.reasoning_content is None)
    answer = split_reasoning(tokenizer, prompt_text, answer)
    whole, rest = _turn(tokenizer, prompt_text, prompt, answer, tools)
    if rest is None and answer.reasoning_content is not None:
        # The prompt already closes the reasoning, for example because a template argument turns it off.
        plain = answer.model_copy(update={"reasoning_content": None})
        whole, rest = _turn(tokenizer, prompt_text, prompt, plain, tools)
    if rest is None:
        # Some templates render a question differently once it is answered. A server renders it unanswered.
        last = prompt[-1:]
        _, rest = _turn(tokenizer, render(tokenizer, last, tools), last, answer, tools)
    if (
        rest is None
        or not _has_content(rest, answer)
        or _drops_a_call(tokenizer, prompt, answer, whole, tools)
    ):
        raise _mismatch(prompt_text, whole)
    if answer.tool_calls and not rest.endswith(end.after):
        token = end_of_call(tokenizer, whole)
        end = AnswerEnd(token, token, rest[max(0, rest.rfind(token)) :])
    if not rest.endswith(end.after):
        raise _mismatch(prompt_text, whole)
    text, reasoning = rest.removesuffix(end.after), (answer.reasoning_content or "").strip()
    before_answer = text[: text.rindex(answer.content.strip())] if answer.content.strip() else text
    return Answer(text, end.generated, has_reasoning=reasoning in before_answer)


def calls_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    calls: list[ToolCall],
    tools: Tools = None,
    content: str = "",
) -> str:
    """Return the text that a scorer gets if a model makes exactly these tool calls.

    The text has no reasoning and no special tokens.
    """
    named = [call.model_copy(update={"id": call.id or CALL_ID}) for call in calls]
    answer = Message(role="assistant", content=content, tool_calls=named)
    text, marks = answer_after(tokenizer, prompt, answer, tools).text, reasoning_marks(tokenizer)
    if marks is not None:
        text = without_reasoning(marks, render(tokenizer, prompt, tools), text)
    return without_special_tokens(tokenizer, text)


def labelled_answer(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """Return the answer of a row as text, without its reasoning.

    Tool calls are included as the text that the chat template renders for them. Raises :class:`UserError` if
    the template refuses the chat.
    """
    if row.tool_calls:
        return calls_text(tokenizer, row.prompt, row.tool_calls, row.tools, row.completion)
    marks = reasoning_marks(tokenizer)
    if marks is None or marks.closes not in row.completion:
        return row.completion
    prompt_text = render(tokenizer, row.prompt, row.tools)
    return split_reasoning(tokenizer, prompt_text, row.answer).content


def _has_content(text: str, answer: Message) -> bool:
    """Return whether a rendered text has the content of the answer, and has the name of each called function
    at least as often as the answer calls this function."""
    called = Counter(call.function.name for call in answer.tool_calls or ())
    return answer.content.strip() in text and all(text.count(name) >= n for name, n in called.items())


def _drops_a_call(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, whole: str, tools: Tools
) -> bool:
    """Return whether a template drops the last of several tool calls. Some templates render only the first
    call."""
    if answer.tool_calls is None or len(answer.tool_calls) == 1:
        return False
    fewer = answer.model_copy(update={"tool_calls": answer.tool_calls[:-1]})
    return whole == apply_template(tokenizer, [*prompt, fewer], add_generation_prompt=False, tools=tools)


def _turn(
    tokenizer: PreTrainedTokenizerBase, prompt_text: str, prompt: list[Message], answer: Message, tools: Tools
) -> tuple[str, str | None]:
    """Return the text of the chat with the answer, and the part of this text after the prompt, see
    :func:`_after`."""
    whole = apply_template(tokenizer, [*prompt, answer], add_generation_prompt=False, tools=tools)
    return whole, _after(tokenizer, prompt_text, whole, answer)


def _after(tokenizer: PreTrainedTokenizerBase, prompt_text: str, whole: str, answer: Message) -> str | None:
    """Return the part of the ``whole`` chat after the prompt.

    A template can render reasoning at the end of the prompt differently in the whole chat. The returned part
    is then adapted to the end of the prompt. Returns None if the chat does not start with the prompt for
    another reason.
    """
    if whole.startswith(prompt_text):
        return whole[len(prompt_text) :]
    marks = reasoning_marks(tokenizer)
    if marks is None or not marks.opens:
        return None
    if not opens_reasoning(prompt_text, marks):
        return _after_empty_reasoning(prompt_text, whole, marks)
    # The prompt opens the reasoning, but the rendered chat has none, or has it with other white space.
    opened = prompt_text.rstrip()
    if whole.startswith(opened):
        return whole[len(opened) :].lstrip()
    before = opened.removesuffix(marks.opens)
    if not whole.startswith(before):
        return None
    reasoning, rest = answer.reasoning_content or "", whole[len(before) :].lstrip()
    if rest.startswith(marks.closes):
        return reasoning + rest
    present = _overlap(marks.closes, rest)  # the rest may start with the end of the closing mark
    closed = f"{reasoning}\n{marks.closes}"
    return f"{closed}{rest[present:]}" if present else f"{closed}\n\n{rest}"


def _after_empty_reasoning(prompt_text: str, whole: str, marks: ReasoningMarks) -> str | None:
    """Return the text after a prompt that ends with empty reasoning, if the rendered chat lacks the empty
    reasoning.

    Returns None if the prompt does not end with empty reasoning, or if prompt and chat differ before it.
    """
    start = prompt_text.rfind(marks.opens)
    empty, rest = prompt_text[start:], whole[start:].lstrip()
    is_empty = start >= 0 and "".join(empty.split()) == "".join(f"{marks.opens}{marks.closes}".split())
    if not is_empty or not whole.startswith(prompt_text[:start]) or rest.startswith(marks.opens):
        return None
    return rest[_overlap(empty.rstrip(), rest) :].lstrip()


def _overlap(first: str, second: str) -> int:
    """Return how many characters at the end of ``first`` are also the start of ``second``."""
    return next(n for n in range(min(len(first), len(second)), -1, -1) if first.endswith(second[:n]))


def _mismatch(prompt_text: str, whole: str) -> UserError:
    shared = max(0, len(common_prefix(prompt_text, whole)) - _SHOWN // 4)
    return UserError(
        "the model's chat template does not render the answer after the prompt: the prompt is "
        f"{_shown(prompt_text, shared)}, but the chat with the answer is {_shown(whole, shared)}",
        "change the answer or the model's chat template: the rendered chat must start with the prompt, and "
        "must contain the content and all tool calls of the answer and the end of its turn",
    )


def _shown(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut!r}{'…' if start + _SHOWN < len(text) else ''}"


def example_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: Message, tools: Tools = None
) -> tuple[list[int], list[int]]:
    """Return the token ids of a prompt, and those of the completion with the end of its turn.

    Generation starts from the same ids of the prompt. Usually, prompt and completion are tokenized as one
    text. If a token would span the boundary between them, the completion is tokenized separately.

    Raises :class:`UserError` if the template does not render the answer after the prompt, or if prompt and
    completion decode to a different text when they are tokenized separately.
    """
    prompt_text = render(tokenizer, prompt, tools)
    rendered = _answer(tokenizer, prompt_text, prompt, answer, tools)
    prompt_ids, completion = encode(tokenizer, prompt_text), rendered.text + rendered.end
    whole_ids = encode(tokenizer, prompt_text + completion)
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, whole_ids[len(prompt_ids) :]
    completion_ids = encode(tokenizer, completion)
    # A tokenizer that puts a space before every text would add one between the two.
    if tokenizer.decode(prompt_ids + completion_ids) != tokenizer.decode(whole_ids):
        raise UserError(
            "the tokenizer changes the text if it gets prompt and completion separately, for example it "
            f"adds a space: prompt {_shown(prompt_text, max(0, len(prompt_text) - _SHOWN))}, completion "
            f"{_shown(completion, 0)}",
            "use the tokenizer.json that the model was trained with",
        )
    return prompt_ids, completion_ids


def answered_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[Message],
    unlearned: Collection[int] = (),
    tools: Tools = None,
) -> list[int]:
    """Return the positions of a prompt's tokens that belong to earlier answers of the chat and can be trained
    on.

    The ends of turns are included. Turns with an index in ``unlearned`` are excluded. If the template changes
    an earlier answer, for example by dropping its reasoning, the answer is excluded too, because a model must
    not learn to generate the changed text. So is a token that only partly belongs to an answer. Positions
    refer to the prompt's tokens from :func:`example_tokens`. Without a fast tokenizer, answers cannot be
    located, and the result is empty.
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
    """Return whether the template changes or drops an earlier answer in a prompt. False if answers cannot be
    located."""
    answers = sum(message.role == "assistant" for message in prompt)
    return _can_locate_answers(tokenizer) and len(_answer_spans(tokenizer, prompt, tools)) < answers


def _can_locate_answers(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the model has a chat template, and the tokenizer reports the offsets of tokens."""
    return bool(tokenizer.chat_template) and tokenizer.is_fast


def _answer_spans(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools
) -> dict[int, tuple[int, int]]:
    """Return where each earlier answer starts and ends (exclusive) in the rendered prompt, by the index of
    its turn.

    Answers that the template changes or drops are left out.
    """
    answers = [i for i, message in enumerate(prompt) if message.role == "assistant"]
    if not answers or not _can_locate_answers(tokenizer):
        return {}
    text = render(tokenizer, prompt, tools)
    spans = {}
    for i in answers:
        prompt_text = render(tokenizer, prompt[:i], tools)
        if not text.startswith(prompt_text):
            continue
        try:
            answer = _answer(tokenizer, prompt_text, prompt[:i], prompt[i], tools)
        except UserError:
            continue  # only the check of the last answer may refuse a row
        end = len(prompt_text) + len(answer.text)
        if text[len(prompt_text) : end] == answer.text:
            # Some templates end the last answer of a chat differently from earlier ones.
            end_of_turn = end + len(answer.end) if text.startswith(answer.end, end) else end
            spans[i] = len(prompt_text), end_of_turn
    return spans
