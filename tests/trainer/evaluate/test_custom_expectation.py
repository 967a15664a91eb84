"""Golden cases that a user's scorer judges."""

import shutil
from collections.abc import Sequence

import pytest

from support.installed import install
from support.trainer_root import gate_spec
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.graders import FAIL, PASS, Output, Sample, Score
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import load_tokenizer


class Reversed:
    """Passes an output that is the expected value backwards. Records how many samples a call had."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        self.batches.append(len(samples))
        return [
            Score(PASS) if sample.output == sample.reference[::-1] else Score(FAIL, "is not reversed")
            for sample in samples
        ]


backwards = Reversed()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an installed package that has the scorer ``reversed``."""
    folder = tmp_path / "packages"
    folder.mkdir()
    install(folder, "text-metrics", {"reversed": f"{__name__}:backwards"})
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def prepared(make_root, tiny_model):
    """Return a function that prepares a golden set."""

    def prepare(*cases: dict[str, object]) -> GeneratedSet:
        context = make_root(gates={"orders": gate_spec(list(cases))}).context()
        (golden,) = golden_sets(context, load_tokenizer(tiny_model), context.request.final_gates)
        return golden

    return prepare


def case(name: str, **expectation: object) -> dict[str, object]:
    return {
        "id": name,
        "prompt": "?",
        "expect": [{"type": "custom", "entryPoint": "reversed", **expectation}],
    }


@pytest.mark.usefixtures("folder")
def test_custom_scorer_judges_all_its_cases_in_one_batch(prepared):
    golden = prepared(
        case("right", value="abc"), case("wrong", value="xyz"), case("not", value="a", **{"not": True})
    )
    backwards.batches.clear()
    scores = [each[GOLDEN] for each in score_cases(golden.cases, [Output("cba", truncated=False)] * 3)]
    assert scores == [Score("p"), Score("f", "is not reversed"), Score("p")]
    assert backwards.batches == [3]


def test_missing_entry_point_is_refused_with_the_case_name(prepared):
    with pytest.raises(
        UserError, match="EvalGate orders, case a: no installed package has the entry point reversed"
    ):
        prepared(case("a", value="abc"))


def test_cached_results_depend_on_the_version_of_the_scorer(prepared, folder):
    plain = {"id": "plain", "prompt": "?", "expect": [{"type": "contains", "value": "x"}]}
    assert prepared(plain).identity == prepared(plain).case_set.sha256
    first = prepared(case("a", value="abc"))
    shutil.rmtree(folder / "text_metrics-1.0.dist-info")
    install(folder, "text-metrics", {"reversed": f"{__name__}:backwards"}, version="2.0")
    second = prepared(case("a", value="abc"))
    assert first.case_set.sha256 == second.case_set.sha256
    assert len({first.identity, second.identity, first.case_set.sha256}) == 3
