"""A real vLLM server with SmolLM2 in place of a guardrail is found by the probes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.trainer_root import TrainerRoot
from support.vllm_server import vllm_judge
from tunegate_api.v1alpha1.guardrail import Guardrail
from tunegate_trainer.guardrail.guard import Guard
from tunegate_trainer.guardrail.probes import PROBES

pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
KEY, NAME, FIELD = "key-of-the-real-guard", "smollm2", "EvalGate orders: spec.guardrail"


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_judge(smollm2, NAME, KEY, log) as port:
        yield f"http://127.0.0.1:{port}/v1"


def guard_at(url: str, protocol: str, folder: Path, key: str = KEY) -> Guard:
    root = TrainerRoot(folder)
    secret = root.path / "secrets" / "guard-key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text(key)
    endpoint = {"url": url, "model": NAME, "secretName": "guard-key"}
    spec = Guardrail.model_validate({"endpoint": endpoint, "protocol": protocol})
    return Guard(root.context(), spec, FIELD)


@pytest.mark.parametrize("protocol", ["LlamaGuard", "Qwen3Guard", "GraniteGuardian"])
def test_chat_model_in_place_of_a_guardrail_does_not_count(url, tmp_path, protocol):
    guard = guard_at(url, protocol, tmp_path)
    assert "it rates its probes wrongly" in str(guard.problem())
    assert guard.probed is not None
    assert guard.probed.safe + guard.probed.unsafe == len(PROBES)


def test_real_server_refuses_a_wrong_key(url, tmp_path):
    problem = guard_at(url, "LlamaGuard", tmp_path, key="guessed").problem()
    assert f"{FIELD}.endpoint: {NAME} at {url}/chat/completions refuses access" in str(problem)
