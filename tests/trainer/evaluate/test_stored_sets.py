"""Sets at an address are copied to the storage volume, where training and gate pods read them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from support.stores.web_server import Request, Response, WebServer
from support.trainer_root import TrainerRoot, gate_spec, golden_cases
from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_trainer.evaluate import stored_sets as module
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError
from tunegate_trainer.tokens.chat import load_tokenizer

Kind = Literal["golden", "safety"]

TEXTS = {
    "golden": inline_text(golden_cases(20)),
    "safety": inline_text(
        [
            {"id": f"case-{n}", "kind": "Harmless" if n else "Unsafe", "category": "a", "prompt": f"yes {n}"}
            for n in range(21)
        ]
    ),
}
READ = {"golden": golden_sets, "safety": safety_sets}
TOKEN = "set-token-of-the-test"
MakeRoot = Callable[..., TrainerRoot]

of_each_kind = pytest.mark.parametrize("kind", ["golden", "safety"])


def context_of(root: TrainerRoot, kind: Kind, uri: str, text: str = "", **spec: Any) -> Context:
    """Return the context of a data role, whose gate has its golden set or its safety set at an address."""
    digest = sha256_text(text or TEXTS[kind])
    source: dict[str, Any] = {"uri": uri, **spec.pop("source", {})}
    pinned = {"source": source, "sha256": digest, **spec.pop("set", {})}
    changes = {"golden": pinned} if kind == "golden" else {"safety": pinned}
    gate = EvalGateSpec.model_validate(gate_spec(**changes, **spec))
    context = root.context(Role.DATA)
    inline = sha256_text(inline_text(gate.golden.source.inline or []))
    digests = {"golden_sha256": inline} | {f"{kind}_sha256": digest}
    request = GateRequest.model_validate({"name": "orders", "spec": gate, **digests})
    context.request = context.request.model_copy(update={"gates": [request]})
    return context


def copy_of(context: Context, kind: Kind) -> Path:
    return context.workspace / context.paths.case_set(kind, "orders")


def on_volume(root: TrainerRoot, text: str) -> Path:
    path = root.path / "volumes" / "sets" / "cases.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@of_each_kind
def test_later_pods_read_the_copy_of_a_volume_set(make_root: MakeRoot, tiny_model: Path, kind: Kind) -> None:
    root = make_root()
    on_volume(root, TEXTS[kind])
    context = context_of(root, kind, "pvc://sets/cases.jsonl")
    store_sets(context)
    shutil.rmtree(root.path / "volumes")
    (found,) = READ[kind](context, load_tokenizer(tiny_model), context.request.gates)
    assert found.case_set.ids == [json.loads(line)["id"] for line in TEXTS[kind].splitlines()]
    store_sets(context)  # a later attempt finds the copy


@of_each_kind
def test_damaged_copy_is_replaced(make_root: MakeRoot, tiny_model: Path, kind: Kind) -> None:
    root = make_root()
    on_volume(root, TEXTS[kind])
    context = context_of(root, kind, "pvc://sets/cases.jsonl")
    store_sets(context)
    copy = copy_of(context, kind)
    copy.write_text("damaged")
    with pytest.raises(BadDataError, match="has sha256"):
        READ[kind](context, load_tokenizer(tiny_model), context.request.gates)
    store_sets(context)
    assert copy.read_text() == TEXTS[kind]


@of_each_kind
def test_web_server_set_is_read_with_its_gates_secret(make_root: MakeRoot, kind: Kind) -> None:
    root = make_root()
    token = root.path / "secrets" / "store" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(TOKEN)

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Response(401)
        return Response(body=TEXTS[kind].encode(), headers={"ETag": '"1"'})

    with WebServer(answer) as server:
        uri = f"http://127.0.0.1:{server.port}/cases.jsonl"
        context = context_of(root, kind, uri, source={"secretName": "store"})
        store_sets(context)
    assert copy_of(context, kind).read_text() == TEXTS[kind]
    assert list((context.workspace / context.paths.download).rglob("cases.jsonl")) == []


@of_each_kind
def test_changed_set_is_refused_with_both_digests(make_root: MakeRoot, kind: Kind) -> None:
    root = make_root()
    on_volume(root, TEXTS[kind].replace("yes", "no"))
    with pytest.raises(BadDataError, match=f"EvalGate orders: the {kind} set was changed: ") as raised:
        store_sets(context_of(root, kind, "pvc://sets/cases.jsonl"))
    assert f"spec.sets[{kind}].sha256 pins {sha256_text(TEXTS[kind])}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "put changed cases into a new file" in raised.value.hint
    assert ("a new EvalGate" in raised.value.hint) == (kind == "golden")


@of_each_kind
def test_missing_set_is_named_with_similar_files(make_root: MakeRoot, kind: Kind) -> None:
    root = make_root()
    on_volume(root, TEXTS[kind])
    with pytest.raises(SourceNotFoundError) as raised:
        store_sets(context_of(root, kind, "pvc://sets/case.jsonl"))
    assert str(raised.value).startswith(f"EvalGate orders: spec.sets[{kind}].source: pvc://sets/case.jsonl")
    assert "cases.jsonl" in raised.value.hint


def test_folder_is_no_golden_set(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root, TEXTS["golden"])
    with pytest.raises(UserError, match="pvc://sets/ is a folder"):
        store_sets(context_of(root, "golden", "pvc://sets/"))


@of_each_kind
def test_set_of_too_many_bytes_is_not_copied(
    make_root: MakeRoot, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    size = len(TEXTS[kind])
    monkeypatch.setattr(module, "MAX_BYTES", size - 1)
    root = make_root()
    on_volume(root, TEXTS[kind])
    context = context_of(root, kind, "pvc://sets/cases.jsonl")
    with pytest.raises(BadDataError, match=f"has {size} bytes, but a {kind} set has at most"):
        store_sets(context)
    assert not copy_of(context, kind).exists()


@of_each_kind
def test_invalid_case_is_named_with_its_line(make_root: MakeRoot, kind: Kind) -> None:
    root, text = make_root(), TEXTS[kind] + '{"id": "b"}\n'
    on_volume(root, text)
    line = len(text.splitlines())
    with pytest.raises(BadDataError, match=f"EvalGate orders: {kind} set: line {line}: "):
        store_sets(context_of(root, kind, "pvc://sets/cases.jsonl", text))


def test_thresholds_that_no_model_can_reach_are_refused(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root, TEXTS["golden"])
    context = context_of(
        root,
        "golden",
        "pvc://sets/cases.jsonl",
        set={"rules": [{"name": "critical", "cases": ["pii-leak"], "minPassRate": "100%"}]},
    )
    with pytest.raises(UserError, match=r"EvalGate orders: .*pii-leak"):
        store_sets(context)


def test_too_few_safety_cases_for_the_limits_are_refused(make_root: MakeRoot) -> None:
    root = make_root()
    on_volume(root, TEXTS["safety"])
    context = context_of(
        root, "safety", "pvc://sets/cases.jsonl", set={"rules": [{"name": "unsafe", "failAtDrop": 2}]}
    )
    with pytest.raises(BadDataError, match="EvalGate orders: safety set: 1 cases of the kind Unsafe cannot"):
        store_sets(context)


def test_changed_safety_set_of_a_dry_run_is_a_warning(make_root: MakeRoot, tiny_model: Path) -> None:
    root = make_root()
    on_volume(root, TEXTS["safety"] + "\n")
    context = context_of(root, "safety", "pvc://sets/cases.jsonl", enforcement="DryRun")
    store_sets(context)
    assert "the safety set was changed: pvc://sets/cases.jsonl" in context.dry_run_faults["orders"]
    assert safety_sets(context, load_tokenizer(tiny_model), context.request.gates) == []


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("cases/../../secrets/hub/HF_TOKEN", "the path must not contain .."),
        ("/etc/passwd", "name the claim, as in pvc://CLAIM/PATH"),
    ],
)
@of_each_kind
def test_path_of_a_set_that_leaves_its_claim_is_refused(
    make_root: MakeRoot, kind: Kind, path: str, problem: str
) -> None:
    root = make_root()
    with pytest.raises(UserError) as raised:
        store_sets(context_of(root, kind, f"pvc://{path}"))
    assert str(raised.value) == f"EvalGate orders: spec.sets[{kind}].source.uri: pvc://{path}: {problem}"


def test_unevaluated_safety_set_is_not_read(make_root: MakeRoot) -> None:
    """A gate of a stage has a safety set, but neither checkpoints nor the final model are evaluated on it."""
    context = context_of(make_root(), "safety", "pvc://sets/missing.jsonl")
    stage = context.request.spec.stages[0].model_copy(update={"gates": context.request.spec.gates})
    spec = context.request.spec.model_copy(update={"gates": [], "stages": [stage]})
    context.request = context.request.model_copy(update={"spec": spec})
    store_sets(context)
    assert not copy_of(context, "safety").exists()
