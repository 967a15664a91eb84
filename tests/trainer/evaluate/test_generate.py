"""Greedy generation: the same outputs as transformers, for any batch, without changing the model or its
state."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import OPTConfig

from support.multimodal_models import save_multimodal_model
from support.random_models import save_random_model
from support.tiny_model import END_OF_TURN, PAD
from support.trainer_root import golden_cases
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.messages import Message
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.evaluate import generate as module
from tunegate_trainer.evaluate.continuous import continuous, try_continuous
from tunegate_trainer.evaluate.generate import generate, generate_samples, greedy, undisturbed
from tunegate_trainer.graders import Output
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import answer_end, encode, load_tokenizer, render, stop_token_ids


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model, tokenizer):
    """A random model whose answers have different lengths."""
    model = load_base(tiny_model, "float32", torch.device("cpu"))
    with torch.no_grad():
        end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        torch.manual_seed(3)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.lm_head.weight[end] *= 1.6
    return model


@pytest.fixture(scope="module")
def prompts(tokenizer):
    shorter = [case["prompt"][: 6 + 3 * i] for i, case in enumerate(golden_cases(12))]
    return [render(tokenizer, [Message(role="user", content=text)]) for text in shorter]


def test_outputs_equal_greedy_generation_of_transformers(model, tokenizer, prompts):
    outputs = generate(model, tokenizer, prompts, GenerationSettings(max_new_tokens=20, batch_size=12))
    assert len({o.truncated for o in outputs}) == 2, "the test needs truncated and complete outputs"
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = torch.tensor([encode(tokenizer, prompt)])
        generated = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :]
        assert output.text == tokenizer.decode(generated, skip_special_tokens=True)
        assert output.truncated == (
            generated[-1].item() not in stop_token_ids(tokenizer, model.generation_config)
        )


@pytest.mark.parametrize("family", ["qwen3_5", "gemma3"])
def test_recurrent_or_sliding_window_batch_answers_equal_single_answers(tmp_path, family):
    """Padding between a shared prefix and the rest of a prompt would disturb the layers of such a model."""
    model = load_base(save_multimodal_model(tmp_path, family), "float32", torch.device("cpu"))
    shared = list(range(3, 103))
    prompts = [shared + list(range(103, 103 + length)) for length in (1, 7, 40)]
    stops = [greedy(model, prompts[:1], 3, [0])[0][-1]]  # one prompt leaves the batch early
    alone = [greedy(model, [prompt], 8, stops)[0] for prompt in prompts]
    assert greedy(model, prompts, 8, stops) == alone


def test_prompts_are_batched_by_length(model, tokenizer, prompts, monkeypatch):
    computed: list[int] = []
    forward = type(model).forward

    def counting(self, *, input_ids, **arguments):
        computed.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **arguments)

    monkeypatch.setattr(type(model), "forward", counting)
    settings = GenerationSettings(max_new_tokens=1, batch_size=2)
    in_order = sorted(prompts, key=len)
    mixed = [prompt for pair in zip(in_order, reversed(in_order), strict=True) for prompt in pair][
        : len(prompts)
    ]
    generate(model, tokenizer, in_order, settings)
    sorted_tokens = sum(computed)
    computed.clear()
    generate(model, tokenizer, mixed, settings)
    assert sum(computed) == sorted_tokens


@pytest.mark.parametrize("batch_size", [1, 5])
def test_float32_outputs_do_not_depend_on_the_batch_size(model, tokenizer, prompts, batch_size):
    one_batch = generate(model, tokenizer, prompts, GenerationSettings(max_new_tokens=20, batch_size=12))
    assert (
        generate(model, tokenizer, prompts, GenerationSettings(max_new_tokens=20, batch_size=batch_size))
        == one_batch
    )


def test_continuous_batching_changes_no_answers_and_restores_the_model(model, tokenizer, prompts):
    asked = [encode(tokenizer, prompt) for prompt in prompts]
    stops = stop_token_ids(tokenizer, model.generation_config)
    expected = greedy(model, asked, 20, stops)
    assert len({len(answer) for answer in expected}) > 2, "otherwise no prompt replaces another"
    attention = model.config._attn_implementation
    assert continuous(model, asked, 20, stops, at_once=3) == expected
    assert model.config._attn_implementation == attention
    assert greedy(model, asked, 20, stops) == expected


def test_continuous_batching_changes_no_answers_of_an_adapter(model, tokenizer, prompts):
    tuned = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules="all-linear"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    asked = [encode(tokenizer, prompt) for prompt in prompts]
    stops = stop_token_ids(tokenizer, model.generation_config)
    expected = greedy(tuned, asked, 20, stops)
    assert expected != greedy(model, asked, 20, stops)
    with torch.inference_mode():
        assert continuous(tuned, asked, 20, stops, at_once=5) == expected


def test_continuous_batching_is_used_if_the_model_supports_it(model, tokenizer, prompts, monkeypatch):
    """The support check is replaced, as if on a GPU. The answers must have the order of the prompts."""
    settings = GenerationSettings(max_new_tokens=20, batch_size=5)
    expected = generate(model, tokenizer, prompts, settings)
    asked = []

    def watched(*arguments: Any, at_once: int) -> list[list[int]] | None:
        asked.append((len(arguments[1]), at_once))
        return try_continuous(*arguments, at_once=at_once)

    monkeypatch.setattr(module, "_supports_continuous", lambda _model: True)
    monkeypatch.setattr(module, "try_continuous", watched)
    continuously = settings.model_copy(update={"batching": "Continuous"})
    assert generate(model, tokenizer, prompts, continuously) == expected
    assert asked == [(len(prompts), 5)]


def test_model_without_continuous_batching_uses_fixed_batches(tmp_path, monkeypatch, caplog):
    """The support check is replaced, as if on a GPU. The layers of this model are recurrent."""
    model = load_base(save_multimodal_model(tmp_path, "qwen3_5"), "float32", torch.device("cpu"))
    asked = [[9, 8, 7], list(range(3, 40))]
    settings = GenerationSettings(max_new_tokens=4, batch_size=2, batching="Continuous")
    monkeypatch.setattr(module, "_supports_continuous", lambda _model: True)
    for _ in range(2):
        found = module.generate_tokens(model, asked, settings, stops=[0], decoders=[greedy])
        assert [found[i] for i in range(2)] == greedy(model, asked, 4, [0])
    assert caplog.text.count("continuous batching is not used") == 1
    assert "linear_attention" in caplog.text


def test_out_of_memory_in_continuous_batching_is_raised(model, tokenizer, prompts):
    asked = [encode(tokenizer, prompt) for prompt in prompts]

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    failing = model.register_forward_pre_hook(fail)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            try_continuous(model, asked, 20, [0], at_once=3)
    finally:
        failing.remove()


def test_cache_that_does_not_fit_raises_out_of_memory(model, tokenizer, prompts):
    with pytest.raises(torch.OutOfMemoryError, match="more than available memory"):
        continuous(model, [encode(tokenizer, prompt) for prompt in prompts], 1 << 40, [0], at_once=3)


def test_continuous_batching_is_ignored_on_a_cpu(model, tokenizer, prompts):
    settings = GenerationSettings(max_new_tokens=20, batch_size=5)
    asked = settings.model_copy(update={"batching": "Continuous"})
    assert generate(model, tokenizer, prompts, asked) == generate(model, tokenizer, prompts, settings)


@pytest.mark.parametrize(("precision", "expected"), [("Auto", torch.bfloat16), ("Float32", torch.float32)])
def test_gate_with_float32_precision_turns_autocast_off(model, tokenizer, prompts, precision, expected):
    computed = set()
    settings = GenerationSettings(max_new_tokens=4, precision=precision)
    watched = model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda _module, _inputs, output: computed.add(output.dtype)
    )
    try:
        with torch.autocast("cpu", torch.bfloat16):
            generate(model, tokenizer, prompts, settings)
    finally:
        watched.remove()
    assert computed == {expected}


def test_empty_list_of_prompts_gives_no_outputs(model, tokenizer):
    assert generate(model, tokenizer, [], GenerationSettings()) == []


def test_undisturbed_context_restores_random_states_and_training_mode(model):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    model.train()
    with undisturbed(model):
        model.eval()
        random.random(), np.random.rand(), torch.rand(1)
    assert model.training
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_generation_does_not_change_random_states_of_training(model, tokenizer, prompts):
    def draw(*_: object) -> None:
        random.random(), np.random.rand(), torch.rand(1)

    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    model.train()
    before, drawing = states(), model.register_forward_hook(draw)
    try:
        generate(model, tokenizer, prompts, GenerationSettings(max_new_tokens=3, batch_size=5))
        assert model.training
        assert states() == before
    finally:
        drawing.remove()
        model.eval()


def test_sampling_settings_of_a_model_are_dropped(tiny_model, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.3, "eos_token_id": [2, 5]})
    )
    config = load_base(folder, "float32", torch.device("cpu")).generation_config
    assert (config.do_sample, config.temperature, config.repetition_penalty) == (None, None, None)
    assert config.eos_token_id == [2, 5]


def test_end_token_is_eos_unless_the_template_has_another(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    assert answer_end(tokenizer).token == END_OF_TURN
    tokenizer.eos_token = PAD
    assert answer_end(tokenizer).token == END_OF_TURN
    tokenizer.chat_template = "{{ '<|im_start|>' }} a template that shows no answer"
    assert answer_end(tokenizer).token == PAD
    tokenizer.chat_template = None
    assert answer_end(tokenizer).token == PAD


def test_tokenizer_without_a_chat_template_returns_one_turn_unchanged(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    assert render(tokenizer, [Message(role="user", content="2 mugs?")]) == "2 mugs?"
    chat = [Message(role="system", content="Answer. "), Message(role="user", content="2 mugs?")]
    with pytest.raises(UserError, match="no chat template to separate them"):
        render(tokenizer, chat)


def test_samples_differ_and_can_be_repeated(model, tokenizer, prompts):
    settings = GenerationSettings(max_new_tokens=8, batch_size=5, samples={"count": 4, "temperature": "1.5"})
    drawn = generate_samples(model, tokenizer, prompts, settings)
    assert [len(outputs) for outputs in drawn] == [4] * len(prompts)
    assert len({output.text for output in drawn[0]}) > 1
    assert generate_samples(model, tokenizer, prompts, settings) == drawn


def test_samples_do_not_depend_on_the_number_of_ranks(model, tokenizer, prompts, monkeypatch):
    settings = GenerationSettings(max_new_tokens=8, batch_size=5, samples={"count": 3})
    alone = generate_samples(model, tokenizer, prompts, settings)
    of_ranks = []

    def merge(ranks: Ranks, mine: dict[int, Any]) -> dict[int, Any]:
        of_ranks.append(mine)
        if ranks.rank == 0:
            raise InterruptedError  # the other rank has not generated its part yet
        return of_ranks[0] | mine

    monkeypatch.setattr(Ranks, "merge", merge)
    with pytest.raises(InterruptedError):
        generate_samples(model, tokenizer, prompts, settings, Ranks(rank=0, world_size=2))
    assert generate_samples(model, tokenizer, prompts, settings, Ranks(rank=1, world_size=2)) == alone
    assert all(of_ranks)


def test_answer_that_ends_with_context_does_not_disturb_its_batch(tmp_path):
    """One prompt ends with the context, and the others go on: the batch shrinks only with several of them."""
    lengths = {"ffn_dim": 64, "word_embed_proj_dim": 64, "max_position_embeddings": 32}
    folder = save_random_model(tmp_path / "opt", OPTConfig, **lengths)
    model = load_base(folder, "float32", torch.device("cpu"))
    prompts = [[5 + i % 7 for i in range(28)], *([5 + n, 6, 7, 8, 9] for n in range(15))]
    together = greedy(model, prompts, 20, stops=[])
    assert [len(answer) for answer in together] == [4, *[20] * 15]
    assert together == [greedy(model, [prompt], 20, stops=[])[0] for prompt in prompts]


def test_answers_end_with_the_context_of_the_model(tmp_path, prompts):
    """OPT has a table of positions, so that a longer text would be an error."""
    lengths = {"ffn_dim": 64, "word_embed_proj_dim": 64, "max_position_embeddings": 64}
    folder = save_random_model(tmp_path / "opt", OPTConfig, **lengths)
    model, tokenizer = load_base(folder, "float32", torch.device("cpu")), load_tokenizer(folder)
    settings = GenerationSettings(max_new_tokens=80, batch_size=12)
    outputs = generate(model, tokenizer, prompts, settings)
    assert any(output.truncated for output in outputs)
    limited = [generate(model, tokenizer, [prompt], settings)[0] for prompt in prompts]
    assert [output.truncated for output in limited] == [output.truncated for output in outputs]
    long, short = generate(model, tokenizer, [prompts[0] * 20, prompts[0]], settings)
    assert (long, short) == (Output("", truncated=True), outputs[0])
