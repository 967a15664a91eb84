"""The files from which preference pairs are built: candidates, which are completions of prompts, and
rankings, in which people order them. Both are JSON Lines."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_serializer, model_validator

from tunegate_api.messages import Message
from tunegate_api.meta import ApiModel, StatusModel

MAX_RATER = 64
"""Maximum length of the name of a rater, in characters."""
MAX_COMPLETIONS = 64
"""Maximum number of completions of a prompt. The number of pairs is quadratic in it."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _as_chat(prompt: object) -> object:
    if isinstance(prompt, str):
        return [{"role": "user", "content": _not_blank(prompt)}]
    if not isinstance(prompt, list):
        raise ValueError("must be text, or a list of the turns of a chat")
    return prompt


def _ends_with_user(prompt: list[Message]) -> list[Message]:
    if prompt[-1].role != "user":
        raise ValueError("must end with a user turn, because the completions are replies to it")
    return prompt


Text = Annotated[str, AfterValidator(_not_blank)]
PromptId = Annotated[Text, Field(max_length=64)]
CompletionId = Annotated[Text, Field(max_length=24)]
Rater = Annotated[Text, Field(max_length=MAX_RATER)]
Prompt = Annotated[
    list[Message], Field(min_length=1), BeforeValidator(_as_chat), AfterValidator(_ends_with_user)
]
"""A prompt: text, or a chat that ends with a user turn."""


class Completion(StatusModel):
    """One completion of a prompt."""

    id: CompletionId
    text: Text


class Candidates(StatusModel):
    """A line of a candidates file: a prompt and its completions. Other fields are ignored."""

    id: PromptId
    prompt: Prompt
    completions: Annotated[list[Completion], Field(min_length=2, max_length=MAX_COMPLETIONS)]

    @property
    def texts(self) -> dict[str, str]:
        """The text of each completion by its id."""
        return {completion.id: completion.text for completion in self.completions}

    @field_serializer("prompt")
    def _prompt(self, prompt: list[Message]) -> Any:
        return prompt_value(prompt)

    @model_validator(mode="after")
    def _has_unique_ids(self) -> "Candidates":
        _refuse_repeated([completion.id for completion in self.completions], "two completions have the id")
        return self


class PromptLine(StatusModel):
    """A line of a file with prompts. Other fields, such as the completion of a training row, are ignored."""

    id: PromptId | None = None
    """None for the number of the line."""
    prompt: Prompt


class SampleRequest(StatusModel):
    """What ``tunegate pairs sample`` asks of the trainer."""

    model: str
    """The URI of the model."""
    revision: str | None = None
    """The revision of a model on the Hugging Face Hub."""
    prompts: list[PromptLine]
    completions: int
    """How many different completions each prompt gets, if the model gives that many."""
    temperature: float
    seed: int
    max_new_tokens: int
    batch_size: int


class SampledPrompt(StatusModel):
    """The completions of one prompt, and why other samples are not used."""

    index: int
    """The index of the prompt in the request."""
    texts: list[str] = []
    repeated: int = 0
    cut: int = 0
    """Samples that did not end within the maximum length."""
    empty: int = 0


class Ranking(ApiModel):
    """A line of a rankings file: how one person ranks the completions of a prompt. Unranked completions that
    are not in ``bad`` have no opinion."""

    id: PromptId
    """Id of the prompt."""
    rater: Rater
    ranking: list[Annotated[list[CompletionId], Field(min_length=1)]]
    """Ids of completions, the best first. Equally good ones are in one list."""
    bad: list[CompletionId] = []
    """Ids of unusable completions, which are neither chosen nor rejected."""
    note: str = ""
    """A comment of the rater."""

    @property
    def ids(self) -> list[str]:
        """The ids of all completions in this ranking."""
        return [*(id for equal in self.ranking for id in equal), *self.bad]

    @property
    def places(self) -> dict[str, int]:
        """The place of each ranked completion. The best have 0."""
        return {id: place for place, equal in enumerate(self.ranking) for id in equal}

    @model_validator(mode="after")
    def _has_each_once(self) -> "Ranking":
        if not self.ids:
            raise ValueError("ranking and bad are both empty")
        _refuse_repeated(self.ids, "ranking and bad have more than once the completion")
        return self


def prompt_value(prompt: list[Message]) -> str | list[dict[str, Any]]:
    """Return a prompt as it is written to files: a single user turn as text, other chats as a list."""
    if len(prompt) == 1 and prompt[0] == Message(role="user", content=prompt[0].content):
        return prompt[0].content
    return [turn.model_dump(mode="json", by_alias=True, exclude_unset=True) for turn in prompt]


def json_notation(text: str) -> str | None:
    """Return the JSON object or array that a completion is, in one notation. Other texts give None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def _refuse_repeated(ids: list[str], problem: str) -> None:
    repeated = next((id for n, id in enumerate(ids) if id in ids[:n]), None)
    if repeated is not None:
        raise ValueError(f"{problem} {repeated}")
