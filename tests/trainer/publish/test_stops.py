"""Stop tokens of a published model: generation from its files stops where it stopped in the gate."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.model_card import load_as_the_card_says
from support.tiny_model import END_OF_TURN, PAD
from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.contract.results import Subject
from tunegate_trainer.main import main
from tunegate_trainer.process.files import read_manifest

pytestmark = pytest.mark.model
STEP = 20
PUBLISH = {"publish": [{"uri": "pvc://models/orders"}]}
WHOLE_STAGE = {"stages": [{"name": STAGE, "method": "SFT"}]}
KINDS: dict[str, dict[str, Any]] = {
    "adapter": {"spec": PUBLISH},
    "merged": {"spec": PUBLISH | {"artifact": {"form": "Merged"}}},
    "all-weights": {"spec": PUBLISH | WHOLE_STAGE, "parameters": ALL_WEIGHTS},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A model whose EOS token is not its end of turn, and whose generation settings change greedy outputs."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("base") / "model")
    change_json(folder / "tokenizer_config.json", eos_token=PAD)
    change_json(folder / "config.json", eos_token_id=0)
    generation = {"do_sample": True, "temperature": 0.6, "no_repeat_ngram_size": 1}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, **generation}))
    return folder


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(
    scope="module",
    params=["adapter", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "adapter")],
)
def root(request, tmp_path_factory, base) -> TrainerRoot:
    """A root after the train, gate and publish roles. Tests must not change it."""
    folder = tmp_path_factory.mktemp("published") / "root"
    root = TrainerRoot(folder, checkpoint_steps=(STEP,), **KINDS[request.param]).write(base)
    (folder / "volumes" / "models").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(folder))
        assert main(["train", "--stage", STAGE]) == ExitCode.OK
        assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
        (final,) = root.report(Role.GATE).results.find(Subject.FINAL)
        assert main(["publish", "--digest", str(final.digest)]) == ExitCode.OK
    return root


def published_folder(root: TrainerRoot) -> Path:
    return root.path / "volumes" / "models" / "orders" / "orders-0f7c9"


def test_published_model_gives_the_same_answers_as_in_the_gate(root):
    judged = [
        json.loads(line)
        for line in (root.workspace / root.paths.gate / "golden-orders.jsonl").read_text().splitlines()
    ]
    assert not any(case["truncated"] for case in judged)

    model, tokenizer = load_as_the_card_says(published_folder(root), root.base_model)
    assert [answer(model, tokenizer, case["prompt"]) for case in judged] == [c["output"] for c in judged]
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
        assert [answer(model, tokenizer, c["prompt"]) for c in judged] == [c["output"] for c in judged]


def answer(model: Any, tokenizer: Any, prompt: str) -> str:
    """Return the model's answer within the gate's token limit, without its stop token."""
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    generated = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    text = str(tokenizer.decode(generated[0, inputs["input_ids"].shape[1] :]))
    assert text.endswith(END_OF_TURN)
    return text.removesuffix(END_OF_TURN)


def test_generation_config_has_every_stop_token_and_no_sampling(root):
    published = published_folder(root)
    written = json.loads((published / "generation_config.json").read_text())
    written.pop("transformers_version")
    assert written == {"eos_token_id": [0, 2]}
    assert read_manifest(published).files.keys() >= {"generation_config.json"}, "sealed with the weights"


def test_card_of_an_adapter_names_the_stop_tokens_for_servers(root):
    card = (published_folder(root) / "README.md").read_text()
    is_adapter = (published_folder(root) / "adapter_config.json").exists()
    assert ('"stop_token_ids": [0, 2]' in card) == is_adapter
    assert "names: the gate stopped at these and at no others" in card
