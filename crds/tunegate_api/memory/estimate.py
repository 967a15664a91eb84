"""Estimate the memory of a stage by part."""

from collections.abc import Iterable

from tunegate_api.memory.block import BFLOAT16, FLOAT32, Block
from tunegate_api.memory.shapes import Accelerator, GenerationBatch, Memory, ModelShape, Pass
from tunegate_api.plan import TrainingParameters

_LOGITS = 3
"""Number of float32 values per logit when the backward pass starts: its log-probability, the gradient of the
log-probability, and the gradient of the logit."""

MOST_LOGITS = 2**26
"""The largest number of logits that a pass on a GPU keeps: 256 MiB in float32. If a pass has more, and the
model is not sharded, they are computed in tiles."""
_TILE = (4096, 32_768)
"""Number of tokens and of vocabulary entries in a tile of logits, from TRL's fused LM head."""
_NO_PASS = Pass.of([0], 0)


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
    """Return the memory that a stage needs for its ``largest`` pass and its largest ``generation`` batch.

    With activation ``checkpointing``, activations are recomputed block by block (arXiv 1604.06174). By
    default, the result for a GPU is with it. With several FSDP ``shards``, the result is for one GPU: a shard
    of weights, gradients and optimizer state, the weights of the current and the next block and of the LM
    head, and the gradients of one block (arXiv 2304.11277). The memory is computed at several moments of an
    optimizer step, and the largest is returned.
    """
    if checkpointing is None:
        checkpointing = accelerator == "GPU"
    block = Block(model, stage, largest, accelerator, shards)
    everywhere = FLOAT32 * block.trained // shards
    of_block = (FLOAT32 * block.trained // model.layers) if shards > 1 else 0
    # The weights of the current and the next block, and those of the head, which stay gathered.
    head = block.weights * model.embedding // model.parameters
    borrowed = (2 * block.weights // model.layers + head) if shards > 1 else 0
    # Gradients of earlier passes of the same step.
    before = everywhere if stage.examples > largest.examples else 0
    kept = model.layers * (block.stream if checkpointing else block.saved) + block.ends + block.copies
    last_layer = kept + block.backward + (block.saved if checkpointing else 0)
    in_tiles = accelerator == "GPU" and shards == 1 and "lm_head" not in (stage.target_modules or [])
    in_loss, in_head = _logits(model, largest, in_tiles=in_tiles, copies=not block.has_adapter)
    # Gradients, activations, logits, and temporary tensors of the update.
    moments = [
        (before, kept, in_loss, 0),  # all activations are kept
        (before + block.head_gradient + of_block, kept, in_head, 0),
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


def _logits(model: ModelShape, largest: Pass, *, in_tiles: bool, copies: bool) -> tuple[int, int]:
    """Return the bytes of logits when the loss is computed, and in the backward pass of the LM head.

    ``in_tiles`` is whether many logits are computed in tiles, and ``copies`` whether a tile needs a copy of
    its weights in bfloat16.
    """
    logits = FLOAT32 * largest.labelled * model.vocabulary
    if not in_tiles or largest.labelled * model.vocabulary <= MOST_LOGITS:
        return _LOGITS * logits, logits
    tile = BFLOAT16 * _TILE[1] * (min(largest.labelled, _TILE[0]) + (model.hidden_size if copies else 0))
    of_head = tile + FLOAT32 * largest.labelled * model.hidden_size
    # A smaller pass of the stage may keep MOST_LOGITS logits, which can need more memory than the tiles.
    return max(tile, _LOGITS * FLOAT32 * MOST_LOGITS), max(of_head, FLOAT32 * MOST_LOGITS)


def judging(
    model: ModelShape,
    stage: TrainingParameters,
    batches: Iterable[GenerationBatch],
    *,
    accelerator: Accelerator,
    whole: str | None = None,
) -> Memory:
    """Return the memory of the final gate, which evaluates the artifact of ``stage`` on one GPU. If the
    artifact is a whole model, ``whole`` is its data type. Without ``whole``, the artifact is an adapter,
    which is loaded together with its base model as in training. ``batches`` are the generation batches of the
    gate."""
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
        evaluation=max(0, generating - block.copies),  # only training makes copies
    )
