"""Compare another engine's answers to a gate's cases with the gate's own answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PART_OF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Answer:
    """A greedy answer, with the likeliest tokens at each position."""

    text: str
    tokens: Sequence[int]
    """The token ids, with the stop token."""
    logprobs: Sequence[Mapping[int, float]]
    """For each token, the natural log-probabilities of the likeliest token ids."""


@dataclass(frozen=True)
class Difference:
    """The first token in which an answer differs from the gate's, as texts and natural log-probabilities."""

    gate: str
    other: str
    gate_logprob: float
    """According to the other engine; minus infinity if the gate's token is not among the likeliest."""
    other_logprob: float

    @property
    def gap(self) -> float:
        """Return how much likelier the engine's own token is, in nats. 0 is a tie."""
        return self.other_logprob - self.gate_logprob


def differences(gate: Mapping[str, str], answers: Mapping[str, Answer], tokenizer: Any) -> list[Difference]:
    """Return a Difference for each case whose text differs from the gate's. Both mappings are by case id."""
    return [
        _first_difference(text, answers[case], tokenizer)
        for case, text in gate.items()
        if answers[case].text != text
    ]


def _first_difference(text: str, answer: Answer, tokenizer: Any) -> Difference:
    """Find the first token in which the answer differs from the gate's text.

    The gate's tokens are not recorded, and a text has several tokenizations: "Leipzig" may differ from "Lanz"
    at the token "Le", not after "L". So this returns the candidate with the smallest gap among all tokens
    with which the gate's text can continue.
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
