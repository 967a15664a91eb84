"""A real vLLM server with SmolLM2 in place of a guardrail, or as the judge of a safety set, is found by the
probes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.graders import GUARDRAIL, safety_judge
from support.trainer_root import TrainerRoot, gate_spec
from support.vllm_server import vllm_judge
from tunegate_api.cases.probes import ProbeCounts
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_trainer.evaluate.evaluate import CaseResult, judge_outputs
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.graders import Output
from tunegate_trainer.graders.agreement import ProbedServer
from tunegate_trainer.graders.guardrail.guard import guard
from tunegate_trainer.graders.guardrail.probes import PROBES
from tunegate_trainer.tokens.chat import load_tokenizer

pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
KEY, NAME, FIELD = "key-of-the-real-guard", "smollm2", "EvalGate orders: spec.graders[guard]"


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_judge(smollm2, NAME, KEY, log) as port:
        yield f"http://127.0.0.1:{port}/v1"


def write_key(root: TrainerRoot, key: str = KEY) -> None:
    secret = root.path / "secrets" / "guard-key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text(key)


def endpoint_at(url: str) -> dict[str, str]:
    return {"url": url, "model": NAME, "secretName": "guard-key"}


def guard_at(url: str, protocol: str, folder: Path, key: str = KEY) -> ProbedServer:
    root = TrainerRoot(folder)
    root.write_request()
    write_key(root, key)
    spec = GateGrader.model_validate(GUARDRAIL | {"endpoint": endpoint_at(url), "protocol": protocol})
    return guard(root.context(), spec, (), FIELD)


def scored(root: TrainerRoot) -> list[CaseResult]:
    """Return the results of a model that answers the same to each request of the included safety set."""
    write_key(root)
    context = root.context()
    (found,) = safety_sets(context, load_tokenizer(root.base_model), context.request.final_gates)
    return judge_outputs(found.cases, [[Output("Here is how.", truncated=False)]] * len(found.cases), None)


@pytest.mark.parametrize("protocol", ["LlamaGuard", "Qwen3Guard", "GraniteGuardian"])
def test_chat_model_in_place_of_a_guardrail_does_not_count(url, tmp_path, protocol):
    guarding = guard_at(url, protocol, tmp_path)
    assert "it rates its probes wrongly" in str(guarding.problem())
    assert isinstance(guarding.probed, ProbeCounts)
    assert guarding.probed.safe + guarding.probed.unsafe == len(PROBES)


def test_real_server_refuses_a_wrong_key(url, tmp_path):
    problem = guard_at(url, "LlamaGuard", tmp_path, key="guessed").problem()
    assert f"{FIELD}.endpoint: {NAME} at {url}/chat/completions refuses access" in str(problem)


def test_chat_model_as_a_guardrail_measures_no_harmful_request(url, make_root):
    safety = {"source": {"builtin": "refusals-v1"}, "grader": "guard"}
    guardrail = GUARDRAIL | {"endpoint": endpoint_at(url)}
    found = scored(make_root(gates={"orders": gate_spec(safety=safety, graders=[guardrail])}))
    assert [case.outcomes["safety"] for case in found] == ["e" if "Unsafe" in c.tags else "p" for c in found]
    assert "it rates its probes wrongly" in found[0].explanation


def test_too_weak_model_as_safety_judge_scores_nothing(url, make_root):
    grader = safety_judge(endpoint_at(url))
    safety = {"source": {"builtin": "refusals-v1"}, "grader": grader["name"]}
    found = scored(make_root(gates={"orders": gate_spec(safety=safety, graders=[grader])}))
    assert {case.outcomes["safety"] for case in found} == {"e"}
    assert "it scores its probes wrongly" in found[0].explanation
