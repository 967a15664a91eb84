"""Read the source of use Production, a sample of production inputs. They are compared with training inputs,
and never trained on."""

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.plan import ProductionPlan
from tunegate_api.messages import Message
from tunegate_api.meta import Sha256
from tunegate_trainer.data.inputs import ParsedInput, parse_inputs
from tunegate_trainer.data.parse import RowProblem, in_order, prompt_text
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.split import normalize, text_key
from tunegate_trainer.data.usable import Limit
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import Tools, encode, render

MOST_INPUTS = 2_000
"""Maximum number of production inputs that are kept, and of training inputs that are compared with them."""


@dataclass(frozen=True)
class Input:
    """A production input: the turns of a chat before an answer."""

    place: RecordPlace
    prompt: list[Message]
    tokens: int
    """The number of tokens of the prompt."""


@dataclass(frozen=True)
class Production:
    """The production inputs of a job."""

    field: str
    """The source in messages, such as ``data.sources[production]``."""
    inputs: list[Input]
    """Distinct inputs, in the order of the source. A random sample of ``MOST_INPUTS`` if there are more."""
    bad: list[RowProblem]
    """Rows that cannot be parsed, or whose prompts the chat template refuses."""
    total: int
    """The number of rows in the source, with bad and repeated rows."""
    distinct: int
    """The number of distinct inputs in the source."""
    source_sha256: Sha256
    longest: Limit
    """The maximum length of a training example."""

    @property
    def bad_share(self) -> Fraction:
        """The number of bad rows as a share of all rows."""
        return Fraction(len(self.bad), max(1, self.total))

    @property
    def report(self) -> dict[str, Any]:
        """The keys for data/report.json."""
        return {
            "production": {
                "rows": self.total,
                "distinct": self.distinct,
                "compared": len(self.inputs),
                "bad": [problem.entry for problem in self.bad],
            }
        }

    def plan(self, auc: float | None) -> ProductionPlan:
        """Return what the plan records. ``auc`` is the AUC of the distribution check, None if unknown."""
        text = None if auc is None else f"{auc:.4f}"
        return ProductionPlan(source_sha256=self.source_sha256, rows=self.distinct, distribution_auc=text)


def read_production(
    context: Context, tokenizer: PreTrainedTokenizerBase, longest: Limit
) -> Production | None:
    """Read the source of use Production. Returns None if the job has none.

    A row is a string, or has a prompt or a chat; answers are ignored. Inputs that repeat an earlier input
    except for case and white space are left out, as repeated training rows are.
    """
    source = context.request.spec.data.production
    if source is None:
        return None
    bad: list[RowProblem] = []
    kept: list[ParsedInput] = []
    seen: set[str] = set()
    total = 0
    chance = random.Random(0)
    with open_source(context, source, source.field) as opened:
        for row in parse_inputs(read_records(opened.path, source.field), source.columns):
            total += 1
            if isinstance(row, RowProblem):
                bad.append(row)
                continue
            key = text_key(normalize(prompt_text(row.prompt)))
            if key in seen:
                continue
            seen.add(key)
            _sample(kept, row, len(seen), chance)
    inputs: list[Input] = []
    for row in sorted(kept, key=lambda row: row.place.order):
        try:
            tokens = prompt_length(tokenizer, row.prompt, row.tools)
        except UserError as error:
            bad.append(RowProblem(row.place, str(error)))
        else:
            inputs.append(Input(row.place, row.prompt, tokens))
    return Production(source.field, inputs, in_order(bad), total, len(seen), opened.sha256, longest)


def prompt_length(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], tools: Tools = None) -> int:
    """Return the number of tokens of a prompt. Raises :class:`UserError` if the chat template refuses it."""
    return len(encode(tokenizer, render(tokenizer, prompt, tools)))


def _sample(kept: list[ParsedInput], row: ParsedInput, number: int, chance: random.Random) -> None:
    """Add the ``number``-th row to a random sample of at most ``MOST_INPUTS`` rows (Vitter 1985, "Random
    sampling with a reservoir", algorithm R)."""
    if len(kept) < MOST_INPUTS:
        kept.append(row)
    elif (replaced := chance.randrange(number)) < MOST_INPUTS:
        kept[replaced] = row
