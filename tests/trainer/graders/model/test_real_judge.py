"""The data role asks a real vLLM server with SmolLM2, which is too weak as a judge."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.graders import JUDGE
from support.judge_server import calibration_rows
from support.trainer_root import TrainerRoot, gate_spec, orders_spec
from support.vllm_server import vllm_judge
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.judging.judge_model import assess_judge
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_trainer.graders.model.instructions import MAX_TOKENS, instructions, messages_for
from tunegate_trainer.graders.server.chat_server import ChatServer
from tunegate_trainer.graders.server.faults import Fault, FaultError
from tunegate_trainer.main import main
from tunegate_trainer.process.credentials import Secret
from tunegate_trainer.process.errors import CredentialsError, SourceNotFoundError

pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
KEY, NAME, FIELD = "key-of-the-real-judge", "smollm2", "data.quality.judge.endpoint"
SHORT = "mugs: 3"


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_judge(smollm2, NAME, KEY, log) as port:
        yield f"http://127.0.0.1:{port}/v1"


def ask(url: str, completion: str = SHORT, *, key: str = KEY, model: str = NAME) -> str:
    """Return the answer of the server about a row."""

    async def complete() -> str:
        endpoint = Endpoint(url=url, model=model, secret_name="judge-key")
        async with ChatServer(endpoint, Secret("judge-key", {"OPENAI_API_KEY": key}), FIELD) as judge:
            row = ReviewRow(row="1", prompt=[Message(role="user", content="3 mugs")], completion=completion)
            return (await judge.complete(messages_for(row, instructions(None)), MAX_TOKENS)).text

    return asyncio.run(complete())


def test_real_server_answers_with_text(url):
    """So small a model does not always end its answer within the limit of tokens."""
    answers = []
    for number in range(1, 9):
        try:
            answers.append(ask(url, f"mugs: {number}"))
        except FaultError as error:
            if error.fault is not Fault.TRUNCATED:
                raise
    assert any(answer.strip() for answer in answers)


def test_real_server_refuses_a_wrong_key_and_an_unknown_model(url):
    with pytest.raises(CredentialsError, match="refuses access"):
        ask(url, key="guessed")
    with pytest.raises(FaultError) as raised:
        ask(url, model="smollm3")
    assert isinstance(raised.value.before_answers, SourceNotFoundError)


def test_real_server_refuses_a_row_that_is_too_long(url):
    with pytest.raises(FaultError) as raised:
        ask(url, "mugs " * 4000)
    assert raised.value.fault is Fault.REFUSED


def test_weak_judge_is_inconclusive(url, tmp_path, tiny_model, monkeypatch):
    endpoint = {"url": url, "model": NAME, "secretName": "judge-key"}
    rows = [{"prompt": f"order {n} mugs", "completion": f"mugs: {n}"} for n in range(40)]
    texts = {"orders/train.jsonl": rows, "scored/scored.jsonl": calibration_rows(bad=10, good=18)}
    root = TrainerRoot(
        tmp_path / "root",
        gates={"orders": gate_spec(graders=[JUDGE | {"endpoint": endpoint}])},
        inputs={name: "".join(json.dumps(row) + "\n" for row in text) for name, text in texts.items()},
        spec=orders_spec(
            tiny_model,
            {"quality": {"grader": {"gate": "orders", "name": "judge"}}},
        ),
    ).write_for_data(tiny_model)
    secret = root.path / "secrets" / "judge-key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text(KEY)
    monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
    assert main(["data"]) == ExitCode.OK

    plan, named = root.report(Role.DATA).plan, root.context(Role.DATA).request.review_grader
    assert plan is not None
    assert plan.data.review is not None
    judge = plan.data.review.judge
    assert judge is not None
    assert named is not None
    found = assess_judge(judge, named.agreement)
    assert not found.calibration.has_passed, found.message
    assert (judge.good, judge.bad) == ([], [])
    assert judge.faults.keys() <= {Fault.MALFORMED, Fault.TRUNCATED}, "the server accepts every request"
    answers = (root.data / "review" / "judge.jsonl").read_text().splitlines()
    scored = sum("label" in json.loads(line) for line in answers)
    assert scored + judge.calibration.unscored == 28
