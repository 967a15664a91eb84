"""The final gate of a job that starts from SmolLM2 asks SmolLM2 on a real vLLM server."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.trainer_root import STAGE, TrainerRoot, gate_spec
from support.vllm_server import vllm_judge
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.judging.judgement import GateJudgement, judge_final
from tunegate_api.verdict.outcomes import ERROR, VerdictState
from tunegate_trainer.main import main
from tunegate_trainer.roles import train as train_role

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
KEY, NAME, STEP = "key-of-the-live-model", "smollm2", 2
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Norway": "Oslo"}
CAPITALS |= {"Germany": "Berlin", "Greece": "Athens", "Egypt": "Cairo", "Poland": "Warsaw", "Cuba": "Havana"}
CASES = [
    {
        "id": country.lower(),
        "prompt": f"What is the capital of {country}? Answer in one sentence.",
        "expect": [{"type": "contains", "value": capital}],
    }
    for country, capital in CAPITALS.items()
]
MAX_DIFFERENT = 4
"""How many of the ten answers may differ from those of transformers. vLLM computes in bfloat16 and rounds
differently."""


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_judge(smollm2, NAME, KEY, log) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def root(url: str, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainerRoot:
    """The root of a job that has trained two steps, and whose gate has the server as a baseline."""
    endpoint = {"url": url, "model": NAME, "secretName": "serving-key"}
    compared = [{"type": "BaseModel"}, {"type": "Endpoint", "endpoint": endpoint}]
    spec = gate_spec(CASES, compareWith=compared)
    spec["generation"] = {"maxNewTokens": 32}
    path = tmp_path_factory.mktemp("endpoint") / "root"
    job = {"evaluation": {"batchSize": 1}}
    root = TrainerRoot(path, spec=job, checkpoint_steps=(STEP,), gates={"capitals": spec}).write(smollm2)
    (path / "secrets" / "serving-key").mkdir(parents=True)
    train_role.run(root.context())
    return root


def judged_with(root: TrainerRoot, key: str, monkeypatch: pytest.MonkeyPatch) -> GateJudgement:
    """Return the operator's judgement of the artifact, if the Secret has this key."""
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    (root.path / "secrets" / "serving-key" / "OPENAI_API_KEY").write_text(key)
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    judged = judge_final(root.context().request, root.report(Role.GATE).results)
    assert judged is not None
    return judged.gates[0]


def test_vllm_answers_the_golden_cases_as_the_gates_base_model(root, monkeypatch):
    judged = judged_with(root, KEY, monkeypatch)
    folder = root.workspace / root.paths.gate
    live, base = (
        [json.loads(line) for line in (folder / f"{prefix}-golden-capitals.jsonl").read_text().splitlines()]
        for prefix in ("endpoint", "base")
    )
    assert all(case["outcomes"]["golden"] != ERROR for case in live)
    different = [
        (a["output"], b["output"]) for a, b in zip(live, base, strict=True) if a["output"] != b["output"]
    ]
    logger.info("%d of %d answers differ: %s", len(different), len(base), different)
    assert len(different) <= MAX_DIFFERENT, different
    passed = sum(case["passed"] for case in live)
    assert passed >= 5, "SmolLM2 knows most of these capitals"
    assert judged.baselines["Endpoint"] == passed


def test_server_that_refuses_the_key_gives_the_verdict_error(root, monkeypatch):
    judged = judged_with(root, "guessed", monkeypatch)
    (finding,) = (finding for finding in judged.verdict.findings if finding.rule == "Endpoint")
    assert finding.state is VerdictState.ERROR
    assert finding.message.startswith(f"Cannot compare with Endpoint ({NAME}): ")
    assert "refuses access: the server answered with status 401" in finding.message
