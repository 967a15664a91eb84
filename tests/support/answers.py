"""Compare another engine's answers to a gate's cases with the gate's own answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PART_OF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Answer:
    """A greedy answer of the other engine, with the most likely tokens at each position."""

    text: str
    tokens: Sequence[int]
    """The token ids of the answer, including the stop token."""
    logprobs: Sequence[Mapping[int, float]]
    """For each position, the natural log-probabilities of the most likely token ids."""


@dataclass(frozen=True)
class Difference:
    """The first token in which an answer differs from the gate's output. Has the text and the natural
    log-probability of both tokens."""

    gate: str
    other: str
    gate_logprob: float
    """Log-probability of the gate's token in the other engine; minus infinity if this token is not among the
    likeliest."""
    other_logprob: float

    @property
    def gap(self) -> float:
        """Return by how many nats the other engine's token is likelier than the gate's token. 0 is a tie."""
        return self.other_logprob - self.gate_logprob


def differences(gate: Mapping[str, str], answers: Mapping[str, Answer], tokenizer: Any) -> list[Difference]:
    """Return a Difference for each case whose answer differs from the gate's output, by case id. The
    arguments are also by case id."""
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
