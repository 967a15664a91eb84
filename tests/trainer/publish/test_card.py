"""The model card: its content, its front matter for model hubs, and its snippet that loads the model."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from huggingface_hub import ModelCard

from support.job_folder import UID, JobFolder
from tunegate_api.contract.plan import MixedPlan, ModelLicense
from tunegate_trainer.roles.publish import run

VERSION = f"invoice-extractor-{UID[:5]}"
PASSING = {"base": ("p" * 10 + "f" * 10, "pp" + "f" * 8), "final": ("p" * 19 + "f", "p" * 9 + "f")}


def card_of(job: JobFolder, **gate: Any) -> str:
    (job.root / "volumes" / "models").mkdir(parents=True)
    run(job.write_request().write_data().context(digest=job.write_gate(**PASSING, **gate)))
    return (job.root / "volumes" / "models" / "invoice-extractor" / VERSION / "README.md").read_text()


def test_front_matter_names_the_base_model_the_library_and_tags(tmp_path: Path) -> None:
    _, front_matter, _ = card_of(JobFolder(tmp_path)).split("---\n", 2)
    found = yaml.safe_load(front_matter)
    del found["model-index"]
    assert found == {
        "base_model": "org/small-instruct",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "peft", "sft", "tunegate"],
    }


def test_hub_library_parses_results_of_gates_and_task_metrics(tmp_path: Path) -> None:
    data = ModelCard(card_of(JobFolder(tmp_path))).data
    assert data.model_name == "invoice-extractor"
    golden, rows = data.eval_results
    assert (golden.task_type, golden.dataset_name) == ("text-generation", "golden set invoice-golden")
    assert (golden.metric_type, golden.metric_value) == ("pass_rate", 0.95)
    assert golden.metric_args == {"passed": 19, "total": 20}
    assert (rows.dataset_name, rows.dataset_split) == ("held-out rows", "test")
    assert (rows.metric_type, rows.metric_value) == ("exact_match", 0.9)


def test_card_states_that_a_selected_golden_rate_is_too_high(tmp_path: Path) -> None:
    selected = (
        "The model is the best of 5 checkpoints by invoice-golden: rate up to 8.0 points too high on "
        "average; the test split is not affected."
    )
    (tmp_path / "five").mkdir()
    (tmp_path / "one").mkdir()
    assert selected in card_of(JobFolder(tmp_path / "five"), evaluated={"sft": 5})
    assert "too high" not in card_of(JobFolder(tmp_path / "one"), evaluated={"sft": 1})


def test_license_of_the_base_model_is_in_the_front_matter(tmp_path: Path) -> None:
    license = ModelLicense(id="other", name="small-license", link="https://example.org/license")
    data = ModelCard(card_of(JobFolder(tmp_path, license=license))).data
    assert (data.license, data.license_name) == ("other", "small-license")
    assert data.license_link == "https://example.org/license"


def test_front_matter_omits_a_base_model_outside_hubs(tmp_path: Path) -> None:
    card = card_of(JobFolder(tmp_path, model_uri="pvc://models/small"))
    assert "base_model" not in ModelCard(card).data.to_dict()
    assert "from `pvc://models/small`" in card


def test_card_snippet_loads_a_multimodal_base_with_its_auto_class(tmp_path: Path) -> None:
    card = card_of(JobFolder(tmp_path, auto_class="AutoModelForImageTextToText"))
    assert "base = AutoModelForImageTextToText.from_pretrained(" in card
    assert "AutoModelForCausalLM" not in card


def test_card_shows_goal_row_counts_parameters_and_scores(tmp_path: Path) -> None:
    card = card_of(JobFolder(tmp_path, warnings=["900 training rows, but goal X | needs at least 1000"]))
    assert "Goal: **TaskSpecialization**" in card
    assert "| train | 1840 |" in card
    assert "900 training rows, but goal X \\| needs at least 1000" in card
    assert "| lora_r | 16 |" in card
    assert "| checkpoint_steps | 20, 40, 60, 80, 100 |" in card
    assert "| Judged on | NVIDIA L4, base weights in bfloat16 |" in card
    assert "| learning_rate | 0.0002 |" in card
    assert "| golden set invoice-golden | 20 | 10 | 19 | golden 19/20 = 0.95, required 0.90;" in card
    assert "| exact_match, test | 10 | 2 | 9 | exact_match 9/10 = 0.90, required 0.80 |" in card
    assert "## Limits" in card


def test_rows_of_each_card_table_have_equal_cells(tmp_path: Path) -> None:
    card = card_of(JobFolder(tmp_path, stages=("sft", "polish")))
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
        assert re.fullmatch(r"[|:-]+", table.splitlines()[1])


def test_card_of_a_whole_model_does_not_mention_adapters(tmp_path: Path) -> None:
    card = card_of(JobFolder(tmp_path, has_adapter=False))
    front_matter = yaml.safe_load(card.split("---\n", 2)[1])
    assert front_matter["library_name"] == "transformers"
    assert front_matter["tags"] == ["sft", "tunegate"]
    assert "| Judged on | NVIDIA L4, weights in bfloat16 |" in card
    assert "lora" not in card
    assert "It is an adapter" not in card


@pytest.mark.model
@pytest.mark.parametrize(("has_adapter", "quantization"), [(True, None), (True, "NF4"), (False, None)])
def test_snippet_of_the_card_loads_the_published_model(
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_adapter: bool,
    quantization: Literal["NF4"] | None,
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = {"model": {"uri": "package://tiny"}}
    job = JobFolder(tmp_path, spec=spec, has_adapter=has_adapter, quantization=quantization)
    card = card_of(job)
    published = job.root / "volumes" / "models" / "invoice-extractor" / VERSION
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if has_adapter:
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(published)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(published)

    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    snippet = snippet.replace('"org/small-instruct"', json.dumps(str(tiny_model)))
    assert ('revision="a09a354"' in snippet) == has_adapter
    snippet = snippet.replace('    revision="a09a354",\n', "").replace(
        "max_new_tokens=256", "max_new_tokens=4"
    )
    monkeypatch.chdir(published)
    names: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - what a reader of the card does
    layers = [m for m in names["model"].modules() if type(m).__name__ == "Linear4bit"]
    assert bool(layers) == bool(quantization)
    assert capsys.readouterr().out.endswith("\n")


def test_card_and_evidence_name_mixed_sources(tmp_path: Path) -> None:
    job = JobFolder(
        tmp_path, mix=[MixedPlan(name="chats", source_sha256="c" * 64, rows=20, rows_per_epoch=50)]
    )
    assert f"50 of the train rows of an epoch are from chats (`{'c' * 64}`)." in card_of(job)
    model = tmp_path / "volumes" / "models" / "invoice-extractor" / VERSION
    verdict = json.loads((model / "evidence" / "verdict.json").read_text())
    assert verdict["sourcesSha256"].keys() == {"train", "chats"}
    assert verdict["sourcesSha256"]["chats"] == "c" * 64
