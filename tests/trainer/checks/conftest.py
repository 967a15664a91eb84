"""Fixtures with valid data for the checks. Tests change the data so that it has one fault."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.records import records_of
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns, DataSource
from tunegate_trainer.checks.finding import CheckContext
from tunegate_trainer.checks.rows import SplitRows, UsableRows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.mix import TrainedMix
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.parse import parse_pairs, parse_rows
from tunegate_trainer.data.production import Input, Production
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.sides import Sides
from tunegate_trainer.data.split import Split
from tunegate_trainer.data.usable import Limit, SourceRows, UsableRow
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.rows import Pair, Row

MINIMUM = 200
"""The minimum number of training rows for the goal of these jobs."""
LIMIT = Limit(128, "sft")


@dataclass(frozen=True)
class SoundData:
    """Valid data for the checks of each field of CHECKS."""

    context: CheckContext
    source: SourceRows[Row]
    pair_source: SourceRows[Pair]
    production: Production
    usable: UsableRows
    split: SplitRows
    folder: Path
    """A folder for the examples of sources."""

    @property
    def schemas(self) -> dict[str, dict[str, object]]:
        return {"json_schema": {"type": "object"}}

    @property
    def trained_mix(self) -> TrainedMix:
        return TrainedMix(self.source, self.usable.rows, [0] * len(self.usable.rows), range(1), [])

    @property
    def pairs(self) -> Split[UsableRow[Pair]]:
        return self.split.pairs

    def source_of(self, *lines: str) -> SourceRows[Row]:
        """Return the source of a file with these lines."""
        parsed = parse_rows(records_of(*lines), Columns(), None)
        return replace(
            self.source,
            parsed=parsed,
            tokenizer=self.context.tokenizer,
            examples=self.folder / "more.arrow",
        )

    def rows_of(self, *rows: dict[str, object]) -> list[UsableRow[Row]]:
        return self.source_of(*map(json.dumps, rows)).tokenized.kept


def production_input(line: int, text: str, *, tokens: int = 15) -> Input:
    return Input(RecordPlace(line), [Message(role="user", content=text)], tokens)


@pytest.fixture(scope="session")
def sound(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SoundData:
    folder = tmp_path_factory.mktemp("sound")
    cases = [{"id": "a", "prompt": "golden order", "expect": [{"type": "equals", "value": "yes"}]}]
    gates = {"orders": gate_spec(cases, generation={"maxNewTokens": 64})}
    root = TrainerRoot(folder / "root", gates=gates).write(tiny_model)
    request, tokenizer = root.context().request, load_tokenizer(tiny_model)
    golden = {"orders": parse_cases("\n".join(map(json.dumps, cases)), GoldenCase)}
    text = [json.dumps({"prompt": f"order {i}", "completion": f"{i}"}) for i in range(MINIMUM + 2)]
    ranked = [json.dumps({"prompt": f"pair {i}", "chosen": "yes", "rejected": "no"}) for i in range(3)]
    parsed = parse_rows(records_of(*text), Columns(), None)
    train, preference = (DataSource(name=name, config_map=name) for name in ("train", "preference"))
    source = SourceRows(train, "0" * 64, parsed, tokenizer, LIMIT, folder / "rows.arrow")
    of_pairs = parse_pairs(records_of(*ranked), Columns(), None, source="preference")
    pair_source = SourceRows(preference, "0" * 64, of_pairs, tokenizer, LIMIT, folder / "pairs.arrow")
    rows, pairs = source.tokenized.kept, pair_source.tokenized.kept
    groups = len({measured.group for measured in [*rows, *pairs]})
    near_duplicates = find_near_duplicates(Documents(rows, pairs))
    inputs = [production_input(i, f"order {i}") for i in range(0, MINIMUM, 3)]
    production = Production("data.sources[production]", inputs, [], len(inputs), len(inputs), "0" * 64, LIMIT)
    return SoundData(
        context=CheckContext(request, tokenizer, golden),
        source=source,
        pair_source=pair_source,
        production=production,
        usable=UsableRows(rows, pairs, groups, near_duplicates, production),
        split=SplitRows(
            rows=Split(rows[:-2], [rows[-2]], [rows[-1]]),
            pairs=Split([pairs[0]], [pairs[1]], [pairs[2]]),
            masked=[0] * MINIMUM,
            earlier=Sides({}),
            conflicts=0,
            template=near_duplicates.template,
        ),
        folder=folder,
    )
