"""Check for training inputs that do not look like production inputs: their words, their form, their lengths
and their vocabulary."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.inputs import Inputs, production_inputs, training_inputs, words_of
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.process.packages import show

if TYPE_CHECKING:
    from tunegate_trainer.checks.classifier import Separation
    from tunegate_trainer.checks.two_samples import InputLengths, Vocabulary

NAME = "distribution_shift"

MIN_INPUTS = 50
"""Minimum number of distinct inputs on each side. With 50, the 95 % confidence interval of an AUC of 0.75 is
about 0.2 wide."""
NOTICEABLE_AUC = 0.55
"""An AUC whose lower bound is larger is worth a warning. For two normal distributions of scores it is a
difference of 0.18 standard deviations, a small effect (Cohen 1988)."""
MIN_KS_DISTANCE = 0.2
"""A smaller Kolmogorov-Smirnov distance is no warning. For two normal distributions it is a difference of 0.5
standard deviations, a medium effect (Cohen 1988)."""
MAX_P_VALUE = 0.01
MIN_LENGTH_RATIO = 1.25
"""Lengths whose percentiles differ by a smaller ratio are no warning, however regular the lengths are."""
MAX_LONGER = 0.05
"""A larger share of production inputs that are longer than every training input is a warning. If both have
the same distribution, the expected share is 1 / (n + 1) for n training inputs."""
MIN_UNKNOWN_WORDS = 0.05
"""A difference of at least one word in twenty to what is usual between two halves of the training inputs is a
warning, if the share is also at least twice as large."""
_SHOWN_WORDS = 6
_SHOWN_INPUTS = 3
_SHOWN_CHARACTERS = 120


def run(rows: UsableRows, context: CheckContext) -> Iterator[Finding]:
    """Compare training inputs with production inputs, and describe all results in one finding.

    It is a warning if there are too few production inputs, or if a difference is noticeable but the AUC does
    not exceed the limit. Otherwise the lower bound of the AUC's 95 % confidence interval is compared with the
    limit. Libraries are imported only here, because jobs without production inputs do not need them.

    The message names the places of inputs and words that several inputs have, but quotes no input, because
    everyone who can read the FineTuneJob can read it.
    """
    if rows.production is None:
        yield _warning(
            "no source has use: Production, so it is unknown whether the training inputs look like "
            f"production inputs: add a sample of at least {MIN_INPUTS} production inputs to "
            "data.sources; policy: Off for Distribution in data.checks removes this warning"
        )
        return
    production = production_inputs(rows)
    learns_rows = any(stage.method == "SFT" for stage in context.request.spec.stages)
    training = training_inputs(rows, context.tokenizer, learns_rows=learns_rows)
    for inputs, name in ((production, "production"), (training, "training")):
        if len(inputs.texts) < MIN_INPUTS:
            yield _warning(
                f"there are only {len(inputs.texts)} distinct {name} inputs that can be used, so it is "
                "unknown whether the training inputs look like production inputs: at least "
                f"{MIN_INPUTS} are needed"
            )
            return
    show("scipy", "sklearn")
    two_samples = import_module("tunegate_trainer.checks.two_samples")
    separation: Separation = import_module("tunegate_trainer.checks.classifier").separate(
        training.texts, production.texts
    )
    lengths: InputLengths = two_samples.compare_lengths(training.lengths, production.lengths)
    vocabulary: Vocabulary = two_samples.compare_vocabulary(
        *([words_of(text) for text in inputs.texts] for inputs in (training, production))
    )
    limit = rows.production.longest.tokens
    too_long = sum(length > limit for length in production.lengths)
    others = [
        *_length_notes(lengths),
        *_limit_note(too_long, len(production.lengths), limit, context),
        *_vocabulary_note(vocabulary),
    ]
    low = Fraction(f"{separation.low:.4f}")
    is_noticeable = bool(others) or low > Fraction(str(NOTICEABLE_AUC))
    refusable = low > context.setting(NAME).limit
    least_like = _least_like(separation, production)
    places = ", ".join(str(production.places[i]) for i in least_like)
    like = f"collect more rows like {places} of {rows.production.field}"
    examples = [
        f'{production.places[i]} "{start_of(production.texts[i], _SHOWN_CHARACTERS)}"' for i in least_like
    ]
    yield Finding(
        severity=Severity.WARNING if is_noticeable and not refusable else Severity.ERROR,
        message="; ".join([_separation_text(separation, training, production), *others, like]),
        count=separation.unlike,
        share=low,
        measured=separation.auc,
        examples=examples,
        remedy=_remedy(training, production),
        report={"distribution": _report(separation, lengths, vocabulary, training, examples)},
    )


def _warning(message: str) -> Finding:
    return Finding(severity=Severity.WARNING, message=message, count=1)


def _separation_text(separation: "Separation", training: Inputs, production: Inputs) -> str:
    numbers = (
        f"a classifier distinguishes {len(training.texts)} training inputs from {len(production.texts)} "
        f"production inputs with an AUC of {separation.auc:.2f} (nominal 95 % interval "
        f"{separation.low:.2f} to {separation.high:.2f}; 0.5 means not at all, 1 means always)"
    )
    more = [
        f"{name} has more {', '.join(words[:_SHOWN_WORDS])}"
        for name, words in (("production", separation.second), ("training", separation.first))
        if words
    ]
    return "; ".join([numbers, *more])


def _length_notes(lengths: "InputLengths") -> list[str]:
    notes = []
    is_large = lengths.distance >= MIN_KS_DISTANCE and lengths.ratio >= MIN_LENGTH_RATIO
    if is_large and lengths.p_value <= MAX_P_VALUE:
        notes.append(
            f"production inputs have {_range(lengths.production)} tokens, but training inputs "
            f"{_range(lengths.training)} (5th, 50th and 95th percentile; Kolmogorov-Smirnov distance "
            f"{lengths.distance:.2f})"
        )
    if lengths.longer > MAX_LONGER:
        notes.append(f"{lengths.longer:.0%} of production inputs are longer than every training input")
    return notes


def _range(percentiles: dict[int, float]) -> str:
    return ", ".join(f"{length:g}" for length in percentiles.values())


def _limit_note(too_long: int, total: int, limit: int, context: CheckContext) -> list[str]:
    if too_long <= share(context.request.spec.data.max_too_long) * total:
        return []
    return [f"{too_long} production inputs have more than {limit} tokens, the limit of training examples"]


def _vocabulary_note(vocabulary: "Vocabulary") -> list[str]:
    share, usual = vocabulary.production, vocabulary.halves
    if share - usual < MIN_UNKNOWN_WORDS or share < 2 * usual:
        return []
    words = ", ".join(f'"{word}"' for word in vocabulary.unknown[:_SHOWN_WORDS])
    return [
        f"{share:.0%} of the words of production inputs do not occur in training inputs"
        f"{words and ', such as '}{words} ({usual:.0%} between two halves of the training inputs)"
    ]


def _least_like(separation: "Separation", production: Inputs) -> list[int]:
    """Return the indices of the production inputs that the classifier finds least like training inputs, one
    of each group of near-equal ones."""
    order = sorted(range(len(production.texts)), key=lambda i: (-separation.scores[i], i))
    first_of_group: dict[str, int] = {}
    for i in order:
        first_of_group.setdefault(separation.groups[i], i)
    return list(first_of_group.values())[:_SHOWN_INPUTS]


def _remedy(training: Inputs, production: Inputs) -> str:
    shares = [inputs.system_share for inputs in (training, production)]
    hint = (
        f"{shares[0]:.0%} of training inputs and {shares[1]:.0%} of production inputs have a system prompt: "
        "write both as the model receives them. "
        if abs(shares[0] - shares[1]) >= 0.5
        else ""
    )
    return (
        f"{hint}Add training rows like the production inputs that are named, or remove rows that production "
        "does not need. To train anyway, raise max of Distribution in data.checks, or set its policy to Warn"
    )


def _report(
    separation: "Separation",
    lengths: "InputLengths",
    vocabulary: "Vocabulary",
    training: Inputs,
    examples: Sequence[str],
) -> dict[str, Any]:
    """Return the entry of data/report.json."""
    return {
        "training_inputs": len(training.texts),
        "production_inputs": len(separation.scores),
        "auc": round(separation.auc, 4),
        "interval": [round(separation.low, 4), round(separation.high, 4)],
        "training_has_more": separation.first,
        "production_has_more": separation.second,
        "examples": list(examples),
        "lengths": lengths.entry,
        "unknown_words": vocabulary.entry,
    }
