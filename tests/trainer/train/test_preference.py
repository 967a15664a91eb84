"""DPO: TRL's losses on packed pairs, with a reference that never changes."""

import json
import shutil
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import log_softmax, logsigmoid
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, dpo_plan, pairs
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.workspace import PAIRS_PREFIX, TRAIN_EXAMPLES
from tunegate_trainer.models.loading import load_adapter, load_base
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.example_file import PairFile, example_writer, to_batch
from tunegate_trainer.tokens.examples import Example, tokenize_pairs
from tunegate_trainer.tokens.likelihood import log_probs
from tunegate_trainer.tokens.rows import read_pairs
from tunegate_trainer.tokens.shared_prefix import (
    allow_shared_prefixes,
    allows_shared_prefixes,
    share_prefixes,
)
from tunegate_trainer.train import preference
from tunegate_trainer.train.attention import BY_EXAMPLE
from tunegate_trainer.train.dataset import preference_example, training_dataset
from tunegate_trainer.train.preference import REFERENCE, preference_losses, reference_log_probs
from tunegate_trainer.train.start import trainable
from tunegate_trainer.train.trainer import PreferenceTrainer

CPU = torch.device("cpu")
BETA = 0.3


def tuned_model(
    base_model, root: TrainerRoot, attention: str = BY_EXAMPLE, *, shares_prefix: bool = False
) -> PeftModel:
    """Return a model with an adapter that is not zero."""
    stage, plan = root.context().plan.stages[-1], root.context().plan
    base = load_base(base_model, "float32", CPU)
    base.set_attn_implementation(attention)
    if shares_prefix:
        allow_shared_prefixes(base)
    model = trainable(base, plan.model, stage.parameters)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.fixture
def dpo_root(make_root) -> TrainerRoot:
    return make_root(later=[dpo_plan(checkpoint_steps=(3, 6))])


@pytest.fixture
def examples(base_model) -> list[tuple[Example, Example]]:
    return tokenize_pairs(load_tokenizer(base_model), pairs("train", 8), 128)


def make_trainer(
    model: Any, root: TrainerRoot, base_model: Any, examples: list[tuple[Example, Example]], loss: str
) -> PreferenceTrainer:
    """Return a trainer whose reference is the model without its adapter."""
    stage = root.context().plan.stages[-1]
    with model.disable_adapter():
        given = log_probs(model, [one for pair in examples for one in pair])
    packed = [
        preference_example(*pair, reference)
        for pair, reference in zip(examples, zip(given[::2], given[1::2], strict=True), strict=True)
    ]
    return PreferenceTrainer(
        loss=loss,
        beta=BETA,
        pass_tokens=1024,
        model=model,
        args=train_role.trainer_arguments(stage, CPU, root.path / "scratch"),
        train_dataset=training_dataset(packed, steps=6, batch_size=4, seed=1),
        processing_class=load_tokenizer(base_model),
    )


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def plain_log_probs(model: Any, chosen: Example, rejected: Example) -> torch.Tensor:
    """Return the log-probabilities of both answers, each computed alone by the plain formula."""
    sums = []
    for one in (chosen, rejected):
        ids, labels = torch.tensor([one["input_ids"]]), torch.tensor(one["labels"])[1:]
        by_token = log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
        kept = labels != -100
        sums.append(by_token[kept].gather(1, labels[kept][:, None]).sum())
    return torch.stack(sums)


@pytest.mark.parametrize(
    ("attention", "shares_prefix"), [("sdpa", False), (BY_EXAMPLE, False), (BY_EXAMPLE, True)]
)
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_dpo_loss_and_gradients_match_trl(
    dpo_root, base_model, examples, loss, attention, shares_prefix, exact
):
    model = tuned_model(base_model, dpo_root, attention, shares_prefix=shares_prefix)
    ours = make_trainer(model, dpo_root, base_model, examples, loss)
    batch = next(iter(ours.get_train_dataloader()))
    assert "shared_prefixes" in share_prefixes(batch), "a pair has one prompt"
    assert allows_shared_prefixes(model) is shares_prefix
    found = ours.compute_loss(model, dict(batch), num_items_in_batch=0)
    found_gradients = gradients(model, found)

    rows = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in pair.prompt],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs("train", 8)
    ]
    order = train_role.training_dataset([{"row": i} for i in range(8)], steps=1, batch_size=4, seed=1)["row"]
    theirs = DPOTrainer(
        # TRL would copy a given adapter as the reference, but our reference is the base model.
        model=model,
        ref_model=load_base(base_model, "float32", CPU),
        args=DPOConfig(
            str(dpo_root.path / "trl"),
            beta=BETA,
            loss_type=[loss],
            per_device_train_batch_size=4,
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([rows[i] for i in order]),
        processing_class=load_tokenizer(base_model),
    )
    padded = theirs.data_collator([theirs.train_dataset[i] for i in range(4)])
    # The template ends an answer with a line break, on which TRL trains too, so it is removed.
    for mask, completion in zip(padded["attention_mask"], padded["completion_mask"], strict=True):
        end = mask.sum() - 1
        mask[end] = completion[end] = 0
    assert padded["attention_mask"].sum() == batch["input_ids"].numel()
    expected = theirs.compute_loss(model, padded)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients(model, expected).items():
        if exact:
            torch.testing.assert_close(gradient, found_gradients[name], rtol=1e-4, atol=1e-7)
        assert (gradient - found_gradients[name]).norm() <= 1e-4 * gradient.norm(), name


def test_dpo_loss_equals_the_formula(dpo_root, base_model, examples, exact):
    model = tuned_model(base_model, dpo_root)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= 50  # with a margin of zero the test would prove nothing
    trainer = make_trainer(model, dpo_root, base_model, examples, "sigmoid")
    pair = trainer.train_dataset[0]
    batch = trainer.data_collator([pair])
    cut = pair["seq_lengths"][0]
    chosen, rejected = (
        Example(input_ids=pair["input_ids"][part], labels=pair["labels"][part])
        for part in (slice(cut), slice(cut, None))
    )
    with torch.no_grad():
        found = trainer.compute_loss(model, batch)
        policy = plain_log_probs(model, chosen, rejected)
        with model.disable_adapter():
            reference = plain_log_probs(model, chosen, rejected)
    rewards = BETA * (policy - reference)
    margin = rewards[0] - rewards[1]
    assert abs(margin.item()) > 0.1
    assert found.item() == pytest.approx(-logsigmoid(margin).item(), rel=1e-5 if exact else 1e-4)
    assert trainer.reward_sums.tolist() == pytest.approx([margin.item(), float(margin > 0)], rel=1e-5)
    assert pair["reference"] == pytest.approx(reference.tolist(), rel=1e-5)
    ours = BETA * (torch.tensor(log_probs(model, [chosen, rejected])) - torch.tensor(pair["reference"]))
    torch.testing.assert_close(ours, rewards, rtol=1e-4, atol=1e-5)


def test_preference_losses_match_known_numbers():
    ratios, lengths = torch.tensor([[1.0, -1.0], [0.0, 0.0]]), torch.tensor([[2.0, 4.0], [1.0, 1.0]])
    sigmoid = preference_losses(ratios, lengths, loss="sigmoid", beta=0.5)
    torch.testing.assert_close(sigmoid, torch.tensor([0.31326169, 0.69314718]))  # ln(1 + 1/e), ln 2
    ipo = preference_losses(ratios, lengths, loss="ipo", beta=0.5)
    torch.testing.assert_close(ipo, torch.tensor([0.0625, 1.0]))  # (0.5 + 0.25 - 1)^2, (0 - 1)^2


def test_dpo_step_does_not_depend_on_passes(make_trained_root):
    runs = []
    for pass_tokens in (1024, 190, 1):  # one pass, two, and one for each pair
        root = make_trained_root(
            checkpoint_steps=(2,),
            later=[dpo_plan(checkpoint_steps=(3,), pass_tokens=pass_tokens)],
            parameters={"lora_dropout": 0.0},
        )
        train_dpo(root, start_step=2)
        runs.append(root.loss_lines("dpo"))
    for line, *others in zip(*runs, strict=True):
        for other in others:
            assert other["tokens"] == line["tokens"], "the same pairs"
            assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)
            assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)
            assert other["reward_margin"] == pytest.approx(line["reward_margin"], rel=1e-4, abs=1e-6)
            assert other["reward_accuracy"] == line["reward_accuracy"]


def train_dpo(root: TrainerRoot, start_step: int) -> None:
    outcome = train_role.run(root.context(stage="dpo", start_step=start_step))
    assert outcome is Outcome.COMPLETED


def test_dpo_loss_starts_at_log_two_and_falls(make_trained_root):
    root = make_trained_root(checkpoint_steps=(2,), later=[dpo_plan(checkpoint_steps=(8,))])
    train_dpo(root, start_step=2)
    losses = root.losses("dpo")
    assert losses[0] == pytest.approx(0.693147, abs=1e-5), "the stage starts at its reference"
    assert losses[-1] < 0.6
    first, *_, last = root.loss_lines("dpo")
    assert first["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert (last["reward_margin"] > 0.1, last["reward_accuracy"]) == (True, 1)


def test_dpo_in_bfloat16_starts_with_a_reward_margin_near_zero(make_trained_root):
    """The passes that compute the reference have other sizes than the passes of training."""
    root = make_trained_root(
        checkpoint_steps=(2,),
        later=[dpo_plan(checkpoint_steps=(8,), dtype="bfloat16")],
        parameters={"dtype": "bfloat16"},
    )
    train_dpo(root, start_step=2)
    first, *_, last = root.loss_lines("dpo")
    assert first["loss"] == pytest.approx(0.693147, abs=1e-2)
    assert first["reward_margin"] == pytest.approx(0, abs=2e-2)
    assert last["loss"] < 0.6


def test_dpo_can_be_the_first_stage(make_root):
    """In this case, the reference is the base model, and the adapter is new."""
    parameters = dpo_plan().parameters.model_dump(exclude_defaults=True)
    root = make_root(checkpoint_steps=(8,), parameters=parameters)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    losses = root.losses()
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[-1] < 0.6


def test_dpo_reference_of_continued_adapter_is_the_sft_model(make_trained_root, tiny_model):
    root = make_trained_root(later=[dpo_plan(checkpoint_steps=(4,))], parameters={"learning_rate": 2e-2})
    train_dpo(root, start_step=6)
    stored = json.loads((root.workspace / root.paths.stage("dpo") / REFERENCE).read_text())["log_probs"]
    learned = read_pairs(root.workspace / root.paths.data / f"{PAIRS_PREFIX}train.jsonl")
    made = tokenize_pairs(load_tokenizer(tiny_model), learned, 128)
    after_sft = load_adapter(load_base(tiny_model, "float32", CPU), root.checkpoint(6), trainable=False)
    after_dpo = load_adapter(
        load_base(tiny_model, "float32", CPU), root.checkpoint(4, "dpo"), trainable=False
    )
    with torch.no_grad():
        references = [plain_log_probs(after_sft, *pair) for pair in made]
        policies = [plain_log_probs(after_dpo, *pair) for pair in made]
        with after_sft.disable_adapter():
            of_base = plain_log_probs(after_sft, *made[0])
    assert stored[0] != pytest.approx(of_base.tolist(), rel=0.01)
    margins = []
    for found, reference, policy in zip(stored, references, policies, strict=True):
        assert found == pytest.approx(reference.tolist(), rel=1e-4)
        rewards = BETA * (policy - reference)
        margins.append((rewards[0] - rewards[1]).item())
    assert sum(margins) / len(margins) > 0, "chosen answers gained on rejected ones"


def test_dpo_loss_and_margin_after_sft_equal_the_formula(make_trained_root, tiny_model):
    root = make_trained_root(later=[dpo_plan(checkpoint_steps=(3, 4))], parameters={"learning_rate": 2e-2})
    train_dpo(root, start_step=6)
    stage = root.context(stage="dpo").plan.stage("dpo")
    learned = read_pairs(root.workspace / root.paths.data / f"{PAIRS_PREFIX}train.jsonl")
    made = tokenize_pairs(load_tokenizer(tiny_model), learned, 128)
    size = stage.parameters.batch_size
    order = training_dataset(
        [{"row": i} for i in range(len(made))], steps=4, batch_size=size, seed=stage.parameters.seed
    )["row"]
    fourth = [made[i] for i in order[3 * size :]]
    reference, policy = (
        load_adapter(load_base(tiny_model, "float32", CPU), folder, trainable=False)
        for folder in (root.checkpoint(6), root.checkpoint(3, "dpo"))
    )
    with torch.no_grad():
        rewards = torch.stack(
            [plain_log_probs(policy, *pair) - plain_log_probs(reference, *pair) for pair in fourth]
        )
    margins = float(stage.parameters.beta) * (rewards[:, 0] - rewards[:, 1])
    line = root.loss_lines("dpo")[3]
    assert margins.mean().abs() > 0.05
    assert line["loss"] == pytest.approx(-logsigmoid(margins).mean().item(), rel=1e-4)
    assert line["reward_margin"] == pytest.approx(margins.mean().item(), rel=1e-4)
    assert line["reward_accuracy"] == (margins > 0).float().mean().item()


@pytest.mark.parametrize(
    ("first", "method"),
    [
        ({}, {}),
        ({"quantization": "NF4"}, {"quantization": "NF4"}),
        ({}, ALL_WEIGHTS | {"starts_from": "Merged", "learning_rate": 1e-3}),
    ],
    ids=["LoRA", "QLoRA", "all weights"],
)
def test_first_ipo_loss_matches_its_formula(make_trained_root, first, method):
    ipo = dpo_plan(checkpoint_steps=(4,), loss="ipo", beta=0.25, **method)
    root = make_trained_root(checkpoint_steps=(2,), later=[ipo], parameters=first)
    train_dpo(root, start_step=2)
    losses = root.losses("dpo")
    assert losses[0] == pytest.approx((1 / (2 * 0.25)) ** 2, rel=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_interruption_of_full_dpo_does_not_change_any_weight(make_trained_root, at_step, judge):
    def make() -> TrainerRoot:
        whole_model = ALL_WEIGHTS | {"starts_from": "Merged", "learning_rate": 1e-3}
        return make_trained_root(later=[dpo_plan(checkpoint_steps=(3, 6), **whole_model)])

    whole, root = make(), make()
    train_dpo(whole, start_step=6)
    assert whole.losses("dpo")[0] == pytest.approx(0.693147, abs=1e-5)
    assert whole.losses("dpo")[-1] < 0.6
    trained = load_file(whole.checkpoint(6, "dpo") / "model.safetensors")
    before = load_file(whole.workspace / whole.paths.merged("dpo") / "model.safetensors")
    assert trained.keys() == before.keys()
    assert not any(torch.equal(trained[name], before[name]) for name in trained)

    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(stage="dpo", interruption=interruption, start_step=6))
    assert train_role.run(root.context(stage="dpo", start_step=6)) is Outcome.COMPLETED
    assert root.losses("dpo") == whole.losses("dpo")
    resumed = load_file(root.checkpoint(6, "dpo") / "model.safetensors")
    assert all(torch.equal(trained[name], resumed[name]) for name in trained)
    result = judge(root, 6, "dpo")
    assert (
        result.evaluations[1].outcomes["golden/orders"] == root.evaluation(6, "dpo").outcomes["golden/orders"]
    )


def test_dpo_disables_dropout_of_the_base_model(tmp_path, tiny_model):
    folder = tmp_path / "with-dropout"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    root = TrainerRoot(
        tmp_path / "root", checkpoint_steps=(2,), later=[dpo_plan(checkpoint_steps=(2,), lora_dropout=0.3)]
    ).write(folder)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    train_dpo(root, start_step=2)
    assert root.losses("dpo")[0] == pytest.approx(0.693147, abs=1e-5)


def test_stored_pairs_give_the_losses_of_tokenized_pairs(make_trained_root, tiny_model):
    tokenized, stored = (make_trained_root(later=[dpo_plan(checkpoint_steps=(3,))]) for _ in range(2))
    train_dpo(tokenized, start_step=6)
    context = stored.context(stage="dpo", start_step=6)
    rows = read_pairs(stored.data / f"{PAIRS_PREFIX}train.jsonl")
    examples = tokenize_pairs(load_tokenizer(tiny_model), rows, 128)
    path = stored.data / f"{PAIRS_PREFIX}{TRAIN_EXAMPLES}"
    with example_writer(path) as writer:
        writer.write_batch(to_batch(one for pair in examples for one in pair))
    context.plan.data.preference.train.__dict__["examples_sha256"] = sha256_file(path)
    assert isinstance(train_role.read_examples(context, context.plan.stages[1], None), PairFile)
    assert train_role.run(context) is Outcome.COMPLETED
    assert stored.losses("dpo") == tokenized.losses("dpo")
    left, right = ((root.stage_folder.parent / "dpo" / REFERENCE) for root in (stored, tokenized))
    assert left.read_bytes() == right.read_bytes()


def test_interruption_of_dpo_changes_neither_reference_nor_results(make_trained_root, at_step):
    whole, root = (make_trained_root(later=[dpo_plan(checkpoint_steps=(3, 6))]) for _ in range(2))
    train_dpo(whole, start_step=6)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(stage="dpo", interruption=interruption, start_step=6))
    reference = root.workspace / root.paths.stage("dpo") / REFERENCE
    before = reference.read_bytes()
    assert train_role.run(root.context(stage="dpo", start_step=6)) is Outcome.COMPLETED
    assert reference.read_bytes() == before
    for found, expected in zip(root.loss_lines("dpo"), whole.loss_lines("dpo"), strict=True):
        for name in ("step", "loss", "reward_margin", "reward_accuracy", "grad_norm"):
            assert found[name] == expected[name]
    left, right = (load_file(r.checkpoint(6, "dpo") / "adapter_model.safetensors") for r in (whole, root))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_reference_is_recomputed_for_changed_inputs_or_damaged_file(
    dpo_root, base_model, examples, monkeypatch
):
    model, folder = tuned_model(base_model, dpo_root), dpo_root.stage_folder
    passes = []
    monkeypatch.setattr(
        preference, "log_probs", lambda *args: passes.append(1) or log_probs(*args)
    )  # to count
    first = reference_log_probs(folder, model, "weights", examples)
    assert reference_log_probs(folder, model, "weights", examples) == first
    assert len(passes) == 1
    assert len(reference_log_probs(folder, model, "weights", examples[:4])) == 4
    reference_log_probs(folder, model, "other weights", examples[:4])
    assert len(passes) == 3
    (folder / REFERENCE).write_text('{"key": ')
    assert reference_log_probs(folder, model, "weights", examples) == first
    assert len(passes) == 4


def test_computing_the_reference_does_not_change_the_model(dpo_root, base_model, examples):
    model = tuned_model(base_model, dpo_root)
    model.train()
    random_state = torch.get_rng_state()
    reference_log_probs(dpo_root.stage_folder, model, "weights", examples)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)


def test_batched_log_probabilities_equal_single_ones(dpo_root, base_model, examples):
    model = tuned_model(base_model, dpo_root)
    model.eval()
    found = log_probs(model, [one for pair in examples for one in pair])
    with torch.no_grad():
        alone = [value for pair in examples for value in plain_log_probs(model, *pair).tolist()]
    assert found == pytest.approx(alone, rel=1e-5)


def test_dpo_does_not_change_base_files(make_trained_root, tiny_model):
    root = make_trained_root(checkpoint_steps=(2,), later=[dpo_plan(checkpoint_steps=(2,))])
    train_dpo(root, start_step=2)
    digest = root.context().plan.model.digest
    base = root.workspace / root.paths.base_model(digest) / "model.safetensors"
    assert sha256_file(base) == sha256_file(tiny_model / "model.safetensors")
    assert sorted(p.name for p in root.checkpoint(2, "dpo").iterdir()) == sorted(
        p.name for p in root.checkpoint(2, STAGE).iterdir()
    ), "the adapter has no reference copy"
