"""Measure the memory that two optimizer steps of the real trainer allocate, from every event of the
allocator."""

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.trainer_callback import TrainerCallback

from support.random_models import EXAMPLES
from support.tiny_model import make_tokenizer
from support.trainer_root import ALL_WEIGHTS, stage_plan
from tunegate_api.contract.plan import DataPlan, ModelPlan, Plan, SplitPlan, StagePlan, TrainingParameters
from tunegate_api.contract.shapes import GenerationBatch, Memory, Pass
from tunegate_api.memory.estimate import estimate
from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.evaluate.generate import greedy
from tunegate_trainer.evaluate.merged import merged_adapter
from tunegate_trainer.models.loading import Shards
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.process.batching import balanced
from tunegate_trainer.roles.train import make_trainer, trainer_arguments
from tunegate_trainer.tokens.examples import Example, completion_tokens, example
from tunegate_trainer.tokens.shared_prefix import segment_sizes
from tunegate_trainer.train.dataset import preference_example, training_dataset
from tunegate_trainer.train.preference import disable_dropout
from tunegate_trainer.train.start import Start, load_start, trainable


@dataclass(frozen=True)
class Allocated:
    """The tensor bytes that an optimizer step needs, by part."""

    weights: int
    """Parameters and buffers, including those of an adapter."""
    optimizer: int
    gradients: int
    peak: int
    """The most bytes that were allocated at one moment, including all parts."""


def measure(
    folder: Path,
    scratch: Path,
    lengths: Sequence[tuple[int, int]],
    *,
    checkpointing: bool,
    shards: Shards | None = None,
    ranks: Ranks = SINGLE_RANK,
    **changes: Any,
) -> Allocated:
    """Train the model of ``folder`` for two steps on all examples, and measure the allocated bytes of this
    rank.

    ``lengths`` are the tokens of prompt and completion of each example, for DPO twice for each pair. Each of
    the ``ranks`` trains on these examples in each step.
    """
    lengths, batch_size = [*lengths] * ranks.world_size, len(lengths) * ranks.world_size
    stage = stage_plan("sft", [2], batch_size=batch_size, **changes)
    parameters = stage.parameters
    model = load_start(Start(folder, "d" * 64), parameters, torch.device("cpu"), EXAMPLES, shards)
    plan = _plan(stage)
    model = trainable(model, plan.model, parameters)
    if parameters.method == "DPO":
        disable_dropout(model)
    arguments = trainer_arguments(stage, torch.device("cpu"), scratch, ranks.world_size)
    if checkpointing:  # a plan enables it for a GPU
        arguments.activation_checkpointing = arguments.gradient_checkpointing = True
    examples = _examples(parameters.method, lengths)
    counted = _Counted()
    trainer = make_trainer(
        parameters,
        model=model,
        ranks=ranks,
        args=arguments,
        train_dataset=training_dataset(examples, steps=2, batch_size=batch_size, seed=0),
        processing_class=make_tokenizer(),
        callbacks=[counted],
    )
    peak = peak_bytes(trainer.train)
    weights = _bytes([*model.parameters(), *model.buffers(), *_quantization_scales(model)])
    return Allocated(weights, counted.optimizer, counted.gradients, weights + peak)


def measure_generation(folder: Path, largest: GenerationBatch, **changes: Any) -> int:
    """Return the tensor bytes without weights of generating a batch whose prompts share no prefix."""
    stage = stage_plan("sft", [2], **changes)
    model = load_start(Start(folder, "d" * 64), stage.parameters, torch.device("cpu"), EXAMPLES)
    model = trainable(model, _plan(stage).model, stage.parameters).eval()
    prompts = [[1 + i] * largest.longest for i in range(largest.prompts)]

    def answer() -> None:
        with merged_adapter(model):
            greedy(model, prompts, largest.new_tokens, stops=[])

    with torch.inference_mode():
        return peak_bytes(answer)


def saved_tensors(model: Any, forward: Callable[[], object]) -> int:
    """Return the bytes of the tensors that autograd keeps for the backward pass of ``forward``, without
    weights."""
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}  # keeps the tensors alive, so that their addresses stay different

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    found = _bytes(tensor for address, tensor in kept.items() if address not in weights)
    del output
    return found


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the peak bytes of ``work``, from every event of the CPU's allocator."""
    gc.collect()  # earlier garbage would be counted as freed
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    recorded = profiler.profiler
    assert recorded is not None
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held)


def model_plan() -> ModelPlan:
    return ModelPlan(uri="package://tiny", digest="d" * 64, parameters=1)


def _plan(stage: StagePlan) -> Plan:
    split = SplitPlan(rows=1, sha256="d" * 64)
    data = DataPlan(source_sha256="d" * 64, train=split, dev=split, test=split, dropped=0)
    return Plan(job_uid="1", model=model_plan(), data=data, stages=[stage], versions={})


def _examples(method: str, lengths: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    made = _tokens(lengths)
    if method == "SFT":
        return [dict(one) for one in made]
    return [preference_example(one, one, (-1.0, -1.0)) for one in made]


def _tokens(lengths: Sequence[tuple[int, int]]) -> list[Example]:
    """Return token ids of examples that share no prefix."""
    return [example([5 + i % 7] * n, [9 + i % 5] * m) for i, (n, m) in enumerate(lengths)]


class _Counted(TrainerCallback):
    """Counts the bytes of the optimizer's state and of the gradients before an optimizer step."""

    optimizer = gradients = 0

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.gradients = _bytes(p.grad for p in model.parameters() if p.grad is not None)

    def on_step_end(self, *_: Any, optimizer: Any, **__: Any) -> None:
        states = optimizer.optimizer.state.values()
        self.optimizer = _bytes(t for s in states for t in s.values() if torch.is_tensor(t) and t.dim())


def _quantization_scales(model: Any) -> Iterator[torch.Tensor]:
    """Return the quantization constants that bitsandbytes keeps for 4-bit weights."""
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of the tensors on this rank. Tied weights count once. A shard counts without the rest
    of its tensor, of which it is a view on a CPU."""
    tensors = list(tensors)
    shards = {t.to_local().data_ptr(): t.to_local().nbytes for t in tensors if isinstance(t, DTensor)}
    whole = (t.untyped_storage() for t in tensors if not isinstance(t, DTensor))
    return sum(shards.values()) + sum({each.data_ptr(): each.nbytes() for each in whole}.values())


FULL = ALL_WEIGHTS | {"dtype": "float32"}
LORA: dict[str, Any] = {"lora_r": 8, "lora_dropout": 0.0, "dtype": "bfloat16"}
DPO: dict[str, Any] = {"method": "DPO", "beta": 0.1, "loss": "sigmoid"}


@dataclass(frozen=True)
class Configuration:
    """A model and a stage that can be trained in a second or two."""

    name: str
    parameters: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    """Changes to the configuration of the model."""
    lengths: Sequence[tuple[int, int]] = ((90, 30), (70, 50), (100, 10), (100, 20))
    """The tokens of prompt and completion of each example, the longest first."""
    pass_tokens: int = 240
    """The maximum number of tokens per pass. By default, a pass has two of the ``lengths``."""
    checkpointing: bool = False


LONG = ((280, 60), (240, 90), (280, 50), (300, 40))
TWO_LONG = 670
"""The number of tokens with which a pass has two of the examples ``LONG``."""
CONFIGURATIONS = (
    Configuration("all weights", FULL),
    Configuration("all weights, one pass a step", FULL, {"vocab_size": 512}, LONG[:2], TWO_LONG),
    Configuration("all weights, a tied head", FULL, {"tie_word_embeddings": True, "vocab_size": 8192}),
    Configuration("all weights by Adafactor", FULL | {"optim": "adafactor"}),
    Configuration(
        "all weights, recomputed", FULL, {"num_hidden_layers": 6}, LONG, TWO_LONG, checkpointing=True
    ),
    Configuration(
        "LoRA on q and v, float32", LORA | {"target_modules": ["q_proj", "v_proj"], "dtype": "float32"}
    ),
    Configuration("LoRA on all linear", LORA),
    Configuration("LoRA by Adafactor", LORA | {"optim": "adafactor", "lora_r": 64}),
    Configuration("LoRA on all linear, long examples", LORA, {"vocab_size": 512}, LONG, TWO_LONG),
    Configuration("LoRA, one example a pass", LORA | {"lora_r": 64}, {}, LONG, pass_tokens=1),
    Configuration("LoRA with dropout", LORA | {"lora_dropout": 0.1}, {"vocab_size": 512}),
    Configuration("LoRA, recomputed", LORA, {"num_hidden_layers": 6}, LONG, TWO_LONG, checkpointing=True),
    Configuration("QLoRA", LORA | {"quantization": "NF4"}, {}, LONG, TWO_LONG),
    Configuration("DPO with LoRA", LORA | DPO, {"vocab_size": 512}, LONG, pass_tokens=1),
    Configuration("DPO of all weights", FULL | DPO, {"vocab_size": 512}, pass_tokens=480),
    Configuration("a large vocabulary", LORA, {"vocab_size": 32_000}, ((60, 200), (80, 180)), 520),
)


def save_model(folder: Path, **changes: Any) -> None:
    """Save a Llama with random weights."""
    settings = {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**(settings | changes))).save_pretrained(folder)


def measured(one: Configuration, scratch: Path) -> tuple[Allocated, Memory]:
    """Return the measured and the estimated memory of a configuration."""
    folder = scratch / "model"
    save_model(folder, **one.model)
    allocated = measure(
        folder,
        scratch / "checkpoints",
        one.lengths,
        checkpointing=one.checkpointing,
        pass_tokens=one.pass_tokens,
        **one.parameters,
    )
    stage = stage_plan("sft", [2], **one.parameters | {"batch_size": len(one.lengths)}).parameters
    estimates = [
        estimate(model_shape(folder), stage, each, accelerator="CPU", checkpointing=one.checkpointing)
        for each in passes(one, stage)
    ]
    return allocated, max(estimates, key=lambda memory: memory.total)


def passes(one: Configuration, stage: TrainingParameters) -> Iterator[Pass]:
    """Yield the passes of a rank in an optimizer step."""
    answers, made = stage.examples // stage.batch_size, _tokens(one.lengths)
    sizes = [answers * len(example["input_ids"]) for example in made]
    for group in balanced(sizes, one.pass_tokens):
        chosen = [made[i] for i in group for _ in range(answers)]
        yield Pass.of(
            [len(example["input_ids"]) for example in chosen],
            sum(map(completion_tokens, chosen)),
            () if stage.lora_dropout else segment_sizes(chosen),
        )
