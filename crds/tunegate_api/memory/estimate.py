"""The bytes of a stage, part by part."""

from collections.abc import Iterable

from tunegate_api.memory.block import FLOAT32, Block
from tunegate_api.memory.shapes import Accelerator, GenerationBatch, Memory, ModelShape, Pass
from tunegate_api.plan import TrainingParameters

CHECKPOINTING_FROM = 1_000_000_000
"""Parameters from which activations are recomputed to fit a GPU, at about 20 % more time a step."""
_LOGITS = 3
"""Float32 numbers of a logit when backward begins: its log-probability, that one's gradient, and its own."""

_NO_PASS = Pass.of([0], 0)


def is_checkpointed(parameters: int, accelerator: Accelerator) -> bool:
    """Whether activations are recomputed block by block instead of kept (arXiv 1604.06174)."""
    return accelerator == "GPU" and parameters >= CHECKPOINTING_FROM


def estimate(
    model: ModelShape,
    stage: TrainingParameters,
    largest: Pass,
    *,
    accelerator: Accelerator,
    generation: GenerationBatch | None = None,
    checkpointing: bool | None = None,
    shards: int = 1,
) -> Memory:
    """The bytes of a stage, by its ``largest`` pass and the largest batch that is generated.

    ``checkpointing`` left out: as :func:`is_checkpointed` says. Of several ``shards``, as FSDP holds them,
    this is one: its share of weights, gradients and optimizer, the weights of the block that computes and of
    the next one, and the gradients of one (arXiv 2304.11277). A step has moments at which it may need most;
    that one counts.
    """
    if checkpointing is None:
        checkpointing = is_checkpointed(model.parameters, accelerator)
    block = Block(model, stage, largest, accelerator)
    everywhere = FLOAT32 * block.trained // shards
    of_block = (FLOAT32 * block.trained // model.layers) if shards > 1 else 0
    borrowed = (2 * block.weights // model.layers) if shards > 1 else 0
    # Of earlier passes of the same step.
    before = everywhere if stage.batch_size > stage.micro_batch_size else 0
    kept = model.layers * (block.stream if checkpointing else block.saved) + block.ends + block.copies
    last_layer = kept + block.backward + (block.saved if checkpointing else 0)
    logits = FLOAT32 * largest.labelled * model.vocabulary
    # Gradients, activations, logits, and what an update needs.
    moments = [
        (before, kept, _LOGITS * logits, 0),  # the loss: everything is still there
        (before + block.head_gradient + of_block, kept, logits, 0),
        ((before or block.head_gradient) + of_block, last_layer, 0, 0),
        (everywhere + block.embedding_gradient + of_block, block.ends + block.saved + block.backward, 0, 0),
        (everywhere, 0, 0, block.update // shards),
    ]
    gradients, activations, at_loss, update = max(moments, key=sum)
    return Memory(
        weights=block.weights // shards + borrowed,
        adapter=everywhere if block.has_adapter else 0,
        optimizer=FLOAT32 * block.moments // shards + update,
        gradients=gradients,
        activations=activations,
        logits=at_loss,
        evaluation=block.generating(generation) if generation else 0,
    )


def judging(
    model: ModelShape,
    stage: TrainingParameters,
    batches: Iterable[GenerationBatch],
    *,
    accelerator: Accelerator,
    whole: str | None = None,
) -> Memory:
    """The bytes of the gate, which judges what ``stage`` made on one GPU: an adapter on its base, held as in
    training, or all weights in the type that ``whole`` names. ``batches`` are what it generates."""
    if whole:
        stage = stage.model_copy(update={"adapter": "None", "quantization": None, "dtype": whole})
    block = Block(model, stage, _NO_PASS, accelerator)
    generating = max(map(block.generating, batches), default=0)
    return Memory(
        weights=block.weights,
        adapter=FLOAT32 * block.trained if block.has_adapter else 0,
        optimizer=0,
        gradients=0,
        activations=0,
        logits=0,
        evaluation=max(0, generating - block.copies),  # which only training makes
    )
