"""What another engine answers to the cases of a gate, and how far it was from the gate's answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PART_OF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Answer:
    """A greedy answer, with the likeliest tokens at each of its places."""

    text: str
    tokens: Sequence[int]
    """Its stop token included."""
    logprobs: Sequence[Mapping[int, float]]
    """Token ids and their natural log-probabilities, one mapping for each token."""


@dataclass(frozen=True)
class Difference:
    """The first token in which an answer is not the gate's, as texts and natural log-probabilities."""

    gate: str
    other: str
    gate_logprob: float
    """By the other engine; minus infinity if the gate's token is not among the likeliest."""
    other_logprob: float

    @property
    def gap(self) -> float:
        """How much likelier the engine found its own token, in nats: 0 is a tie."""
        return self.other_logprob - self.gate_logprob


def differences(gate: Mapping[str, str], answers: Mapping[str, Answer], tokenizer: Any) -> list[Difference]:
    """One for each case whose text is not the gate's; both map case ids."""
    return [
        _first_difference(text, answers[case], tokenizer)
        for case, text in gate.items()
        if answers[case].text != text
    ]


def _first_difference(text: str, answer: Answer, tokenizer: Any) -> Difference:
    """Where the answer leaves the gate's text.

    The gate's tokens are not recorded, and one text has several: "Leipzig" leaves "Lanz" at "Le", not behind
    "L". So it is the closest of all tokens that begin what the text goes on with.
    """

    def fits(tokens: Sequence[int]) -> bool:
        if tokens[-1] == tokenizer.eos_token_id:
            return bool(tokenizer.decode(tokens[:-1]) == text)
        return text.startswith(tokenizer.decode(tokens).rstrip(_PART_OF_A_CHARACTER))

    found = []
    for place, own in enumerate(answer.tokens):
        before, likely = answer.tokens[:place], answer.logprobs[place]
        found += [
            Difference(tokenizer.decode([token]), tokenizer.decode([own]), likely[token], likely[own])
            for token in likely
            if token != own and fits([*before, token])
        ]
        if not fits([*before, own]):
            break
    nothing_likely = Difference("", tokenizer.decode([own]), -math.inf, likely[own])
    return min(found, key=lambda difference: difference.gap, default=nothing_likely)
