"""A golden set at an address is copied to the storage volume, where training and gate pods read it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.stores.web_server import Request, Response, WebServer
from support.trainer_root import TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract import GateRequest, Role, sha256_text
from tunegate_api.judging.case_lines import inline_text
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_trainer.evaluate import stored_golden_sets as module
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.stored_golden_sets import store_golden_sets
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError
from tunegate_trainer.tokens.chat import load_tokenizer

TEXT = inline_text(golden_cases(20))
TOKEN = "golden-token-of-the-test"
MakeRoot = Callable[..., TrainerRoot]


def context_of(root: TrainerRoot, uri: str, text: str = TEXT, **spec: Any) -> Context:
    """Return the context of a data role, whose gate has its golden set at an address."""
    digest = sha256_text(text)
    source: dict[str, Any] = {"uri": uri, **spec.pop("source", {})}
    gate = gate_spec() | {"golden": {"source": source, "sha256": digest}} | spec
    context = root.context(Role.DATA)
    request = GateRequest(name="orders", spec=EvalGateSpec.model_validate(gate), golden_sha256=digest)
    context.request = context.request.model_copy(update={"gates": [request]})
    return context


def on_volume(root: TrainerRoot, text: str = TEXT) -> Path:
    path = root.path / "volumes" / "sets" / "golden.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_later_pods_read_the_copy_of_a_golden_set_on_a_volume(make_root: MakeRoot, tiny_model: Path) -> None:
    root = make_root()
    on_volume(root)
    context = context_of(root, "pvc://sets/golden.jsonl")
    store_golden_sets(context)
    shutil.rmtree(root.path / "volumes")
    (golden,) = golden_sets(context, load_tokenizer(tiny_model), context.request.gates)
    assert golden.case_set.ids == [f"case-{number}" for number in range(20)]
    store_golden_sets(context)  # a later attempt finds the copy


def test_damaged_copy_is_replaced(make_root: MakeRoot, tiny_model: Path) -> None:
    root = make_root()
    on_volume(root)
    context = context_of(root, "pvc://sets/golden.jsonl")
    store_golden_sets(context)
    (copy,) = (context.workspace / context.paths.data / "golden").iterdir()
    copy.write_text("damaged")
    with pytest.raises(BadDataError, match="has sha256"):
        golden_sets(context, load_tokenizer(tiny_model), context.request.gates)
    store_golden_sets(context)
    assert copy.read_text() == TEXT


def test_golden_set_on_a_web_server_is_read_with_the_secret_of_its_gate(make_root: MakeRoot) -> None:
    root = make_root()
    token = root.path / "secrets" / "store" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(TOKEN)

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Response(401)
        return Response(body=TEXT.encode(), headers={"ETag": '"1"'})

    with WebServer(answer) as server:
        uri = f"http://127.0.0.1:{server.port}/golden.jsonl"
        context = context_of(root, uri, source={"secretName": "store"})
        store_golden_sets(context)
    assert (context.workspace / context.paths.golden_set("orders")).read_text() == TEXT
    assert list((context.workspace / context.paths.download).rglob("golden.jsonl")) == []


def test_changed_golden_set_is_refused_with_both_digests(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root, TEXT.replace("yes", "no"))
    with pytest.raises(BadDataError, match="EvalGate orders: the golden set was changed: ") as raised:
        store_golden_sets(context_of(root, "pvc://sets/golden.jsonl"))
    assert f"golden.sha256 pins {sha256_text(TEXT)}" in str(raised.value)
    assert "a new EvalGate" in raised.value.hint


def test_missing_golden_set_is_named_with_similar_files(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root)
    with pytest.raises(
        SourceNotFoundError, match=r"EvalGate orders: spec\.golden\.source: pvc://sets/gold\.jsonl"
    ) as raised:
        store_golden_sets(context_of(root, "pvc://sets/gold.jsonl"))
    assert "golden.jsonl" in raised.value.hint


def test_folder_is_no_golden_set(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root)
    with pytest.raises(UserError, match="pvc://sets/ is a folder"):
        store_golden_sets(context_of(root, "pvc://sets/"))


def test_golden_set_of_too_many_bytes_is_not_copied(
    make_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", len(TEXT) - 1)
    root = make_root()
    on_volume(root)
    context = context_of(root, "pvc://sets/golden.jsonl")
    with pytest.raises(BadDataError, match=f"has {len(TEXT)} bytes, but a golden set has at most"):
        store_golden_sets(context)
    assert not (context.workspace / context.paths.golden_set("orders")).exists()


def test_invalid_case_is_named_with_its_line(make_root: MakeRoot) -> None:
    root, text = make_root(), TEXT + '{"id": "b"}\n'
    on_volume(root, text)
    with pytest.raises(BadDataError, match="EvalGate orders: golden set: line 21: "):
        store_golden_sets(context_of(root, "pvc://sets/golden.jsonl", text))


def test_thresholds_that_no_model_can_reach_are_refused(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root)
    context = context_of(root, "pvc://sets/golden.jsonl", thresholds={"mustPass": ["pii-leak"]})
    with pytest.raises(UserError, match=r"EvalGate orders: .*pii-leak"):
        store_golden_sets(context)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("golden/../../secrets/hub/HF_TOKEN", "the path must not contain .."),
        ("/etc/passwd", "name the claim, as in pvc://CLAIM/PATH"),
    ],
)
def test_golden_path_that_leaves_its_claim_is_refused(make_root: MakeRoot, path: str, problem: str) -> None:
    root = make_root()
    with pytest.raises(UserError) as raised:
        store_golden_sets(context_of(root, f"pvc://{path}"))
    assert str(raised.value) == f"EvalGate orders: spec.golden.source.uri: pvc://{path}: {problem}"
