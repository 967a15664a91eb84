"""Write docs/families.md: the model families that the tests train, and how each differs.

``--check`` writes nothing, and fails if the page is out of date.
"""

import pathlib
import sys
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.generated_page import write_or_check  # noqa: E402

from support.families import (  # type: ignore[import-not-found] # noqa: E402 - mypy knows no tests
    FAMILIES,
    TRAINED,
)
from support.family import Family  # type: ignore[import-not-found] # noqa: E402

PAGE = ROOT / "docs" / "families.md"
SINGLY, FIXED = "one example at a time", "no continuous batching"
INTRODUCTION = """\
# Model families

A model can be used if this version of transformers supports it without custom code, if it generates text, and
if its attention can separate examples. The table has {trained} families for which the tests prove this, and
{refused} that are refused. For each family, the tests create a tiny random model in float32, run it through
the code that jobs use, and compare the results with those of plain transformers, which computes one example
at a time with eager attention and without padding:

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
- **refused**: the data Job ends with this error, before a GPU is requested.

`tools/families_page.py` generates this page from the table of the tests, `tests/support/families.py`.

"""


def page() -> str:
    """Return the whole page."""
    introduction = INTRODUCTION.format(
        trained=len(TRAINED), refused=len(FAMILIES) - len(TRAINED), singly=SINGLY, fixed=FIXED
    )
    header = ["| family | configuration in transformers | features | differs |", "|---|---|---|---|"]
    return introduction + "\n".join([*header, *map(_row, FAMILIES)]) + "\n"


def _row(family: Family) -> str:
    return f"| {family.name} | `{family.config}` | {family.features} | {'; '.join(_differences(family))} |"


def _differences(family: Family) -> Iterator[str]:
    if family.refused:
        yield f"refused: {family.refused}"
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
