"""Write docs/families.md: the model families that the tests train, and how each differs.

``--check`` writes nothing, and fails if the page is out of date.
"""

import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.generated_page import write_or_check  # noqa: E402

from support.families import (  # type: ignore[import-not-found] # noqa: E402 - mypy knows no tests
    FAMILIES,
    REFUSED,
    REFUSED_JOBS,
    REFUSED_MODELS,
)
from support.family import Family  # type: ignore[import-not-found] # noqa: E402

PAGE = ROOT / "docs" / "families.md"
SINGLY, FIXED = "one example at a time", "no continuous batching"
INTRODUCTION = """\
# Model families

A model can be used if this version of transformers supports it without custom code, if it generates text, and
if its attention can separate examples. The first table has {trained} families for which the tests prove this,
and the [other tables](#what-is-refused) have {refused} models and jobs that are refused. For each family, the
tests create a tiny random model in float32, run it through the code that jobs use, and compare the results
with those of plain transformers, which computes one example at a time with eager attention and without
padding:

- SFT with LoRA, and full fine-tuning: the first loss and the norm of its gradient are equal up to rounding.
- DPO: the first loss is ln 2 although the model's configuration sets dropout, and the reference
  log-probabilities are equal up to rounding.
- Greedy generation in one batch, also with `batching: Continuous`: every token is equal.

The tests run on a CPU. They show that passes, batches and adapters are computed correctly, not that a large
model of the family learns your task. Models of other families are not refused: the check that runs before
each training ([Choosing](choosing.md#which-model)) finds out whether their examples can be packed.

What the last column means:

- **{singly}**: the model does not keep packed examples apart, so each example gets a pass of
  its own. Training is slower; losses and results are the same. The plan has a note. Without an entry,
  examples are packed.
- **{fixed}**: transformers cannot generate with this model by continuous batching, so
  `batching: Continuous` is treated as `Fixed`.
- **LoRA on**: some linear layers of the model are of a type that PEFT does not support. The data Job refuses
  `all-linear`, so name layers in `adapter.targetModules`, for example those in the table.

`tools/families_page.py` generates this page from the tables of the tests, `tests/support/families.py` and
`tests/support/refused_families.py`.

"""
REFUSALS = """\

## What is refused

The data Job ends with the error below, and with a hint that contains the remedy, before a GPU is requested.
The tests run the data role for each row.

### Models

"""
JOBS = """\

### Jobs

These models can be trained, but not with these settings.

"""


def page() -> str:
    """Return the whole page."""
    introduction = INTRODUCTION.format(
        trained=len(FAMILIES), refused=len(REFUSED), singly=SINGLY, fixed=FIXED
    )
    return "".join(
        (
            introduction,
            _table("family", "differs", FAMILIES, lambda family: "; ".join(_differences(family))),
            REFUSALS,
            _table("model", "error | remedy", REFUSED_MODELS, _refusal),
            JOBS,
            _table("job", "error | remedy", REFUSED_JOBS, _refusal),
        )
    )


def _table(first: str, last: str, rows: Sequence[Family], cell: Callable[[Family], str]) -> str:
    header = f"| {first} | configuration in transformers | features | {last} |"
    lines = [header, "|---" * (header.count("|") - 1) + "|"]
    lines += [f"| {each.name} | `{each.config}` | {each.features} | {cell(each)} |" for each in rows]
    return "\n".join(lines) + "\n"


def _refusal(family: Family) -> str:
    return f"{_ellipsis(family.refused)} | {_ellipsis(family.remedy)}"


def _ellipsis(text: str) -> str:
    """Return a part of a message, with an ellipsis if values follow it."""
    return f"{text}…" if text.endswith(" ") else text


def _differences(family: Family) -> Iterator[str]:
    if family.singly:
        yield SINGLY
    if family.fixed:
        yield FIXED
    if family.targets:
        yield f"LoRA on {', '.join(f'`{name}`' for name in family.targets)}"
    if family.note:
        yield family.note


def main(arguments: Sequence[str]) -> int:
    """Write the page. With ``--check``, print how the page differs instead, and return 1 if it differs."""
    return write_or_check(PAGE, page(), arguments, "The table changed: run `python tools/families_page.py`.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
