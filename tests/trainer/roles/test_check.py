"""Checking data for `tunegate init`, which also guesses columns and describes the rows."""

import json

from support.stores.web_server import Response, WebServer
from tunegate_trainer.roles.check import check

ROWS = "".join(json.dumps({"question": f"order {i} mugs", "answer": f"mugs: {i}"}) + "\n" for i in range(80))


def test_rows_are_downloaded_once_and_columns_are_guessed(tmp_path):
    root = tmp_path / "a folder"
    (root / "workspace").mkdir(parents=True)
    with WebServer(lambda _: Response(body=ROWS.encode())) as server:
        spec = {
            "model": {"uri": "file:///any"},
            "data": {
                "goal": "StyleOrFormat",
                "sources": [{"name": "train", "uri": f"http://localhost:{server.port}/rows.jsonl"}],
            },
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
            "stages": [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}],
            "gates": [{"name": "golden"}],
            "storage": {"persistentVolumeClaim": "any"},
        }
        job = {"kind": "FineTuneJob", "metadata": {"name": "checked"}, "spec": spec}
        (root / "job.json").write_text(json.dumps({"apiVersion": "tunegate.dev/v1alpha2", **job}))
        (root / "gates.json").write_text("[]")
        found = check(root, any_model=True, any_goal=True, describe=True)
        ranges = [request.headers.get("Range") for request in server.requests]
    assert found.failure is None
    assert found.rows == 80
    assert found.guessed_columns.prompt == "question"
    assert found.described.longest_prompt == len("order 79 mugs")
    assert ranges == ["bytes=0-0", None]
