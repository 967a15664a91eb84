"""On a real node, a model that is worse than the one on a real vLLM server is not published."""

import json
from pathlib import Path

import pytest

from support.builders import make_config_map
from support.node import Node
from support.smollm2 import prepare_smollm2
from support.tiny_job import TinyJob
from support.vllm_server import vllm_judge
from tunegate_api.contract.digests import sha256_text

pytestmark = [pytest.mark.e2e_full, pytest.mark.timeout(1800)]
LIVE = "smollm2"
CASES = [
    {
        "id": country.lower(),
        "prompt": f"What is the capital of {country}? Answer in one sentence.",
        "expect": [{"type": "length", "unit": "Words", "min": 3}],
    }
    for country in ("France", "Italy", "Japan")
]
"""Cases that SmolLM2 passes. The tiny model of the job answers with one word."""


def test_model_worse_than_the_live_model_is_not_published(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    job = TinyJob(node, namespace)
    rows, cases, gate, wanted = job.manifests()
    golden = "".join(f"{json.dumps(case)}\n" for case in CASES)
    cases["data"] = make_config_map("cases", golden__jsonl=golden)["data"]
    rules = [{"name": "all", "minPassRate": "0%", "failAtDrop": "50%"}]
    gate["spec"]["sets"][0] |= {"sha256": sha256_text(golden), "rules": rules}
    gate["spec"]["generation"] = {"maxNewTokens": 64}
    with vllm_judge(prepare_smollm2(tmp_path), LIVE, "", tmp_path / "server.log", node.host) as port:
        endpoint = {"url": f"http://{node.host}:{port}/v1", "model": LIVE}
        gate["spec"]["compareWith"] = [{"type": "Endpoint", "endpoint": endpoint}]
        node.apply(namespace, rows, cases, gate, wanted)
        status = job.ended()
    assert (status["phase"], status["failure"]["reason"]) == ("Failed", "GateFailed"), status["message"]
    assert f"golden 0/3, Endpoint ({LIVE}) 3/3: -100.0 points" in status["failure"]["message"]
    assert not (job.models / job.name).exists()
