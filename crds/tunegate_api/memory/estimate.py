"""Estimate the memory of a stage by part."""

from collections.abc import Iterable
from typing import NamedTuple

from tunegate_api.contract.plan import TrainingParameters
from tunegate_api.contract.shapes import Accelerator, GenerationBatch, Memory, ModelShape, Pass, Sharding
from tunegate_api.memory.block import BFLOAT16, FLOAT32, Block

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
    sharding: Sharding | None = None,
) -> Memory:
    """Return the memory that a stage needs for its ``largest`` pass and its largest ``generation`` batch.

    With activation ``checkpointing``, activations are recomputed block by block (arXiv 1604.06174). By
    default, the result for a GPU is with it. With ``sharding``, the result is for one rank of FSDP, see
    :func:`_sharded_gradients`. The memory is computed at several moments of an optimizer step, and the
    largest is returned.
    """
    if checkpointing is None:
        checkpointing = accelerator == "GPU"
    block = Block(model, stage, largest, accelerator, sharding)
    ranks = sharding.ranks if sharding else 1
    everywhere = FLOAT32 * block.trained // ranks
    # Gradients of earlier passes of the same step.
    before = everywhere if stage.examples // ranks > largest.examples else 0
    kept = model.layers * (block.stream if checkpointing else block.saved) + block.ends
    # The forward pass makes copies. The backward pass keeps those that it needs: if blocks are recomputed,
    # that of the head, and then those of one block.
    of_head, of_block = (block.head_copy, block.block_copies) if checkpointing else (block.copies,) * 2
    last_layer = kept + of_block + block.backward + (block.saved if checkpointing else 0)
    in_tiles = accelerator == "GPU" and sharding is None and "lm_head" not in (stage.target_modules or [])
    in_loss, in_head = _logits(model, largest, in_tiles=in_tiles, copies=not block.has_adapter)
    gradients = (
        _sharded_gradients(model, sharding, before=before, everywhere=everywhere)
        if sharding
        else _gradients(block, before=before, everywhere=everywhere)
    )
    # Gradients, activations, logits, and temporary tensors of the update.
    moments = [
        (before, kept + block.copies, in_loss, 0),  # all activations are kept
        (gradients.head, kept + of_head, in_head, 0),
        (gradients.last_block, last_layer, 0, 0),
        (gradients.first_block, block.ends + block.block_copies + block.saved + block.backward, 0, 0),
        (gradients.embedding, block.ends, 0, 0),
        (everywhere, 0, 0, block.update // ranks),
    ]
    at_once, activations, at_loss, update = max(moments, key=sum)
    return Memory(
        weights=block.weights // ranks + (_gathered(model, sharding) if sharding else 0),
        adapter=everywhere if block.has_adapter else 0,
        optimizer=FLOAT32 * block.moments // ranks + update,
        gradients=at_once,
        activations=activations,
        logits=at_loss,
        evaluation=block.generating(generation) if generation else 0,
    )


class _Gradients(NamedTuple):
    """The bytes of gradients at moments of a backward pass, which begins with the head."""

    head: int
    last_block: int
    first_block: int
    embedding: int


def _gradients(block: Block, *, before: int, everywhere: int) -> _Gradients:
    """Return the gradients of a model that is not sharded. ``before`` are those of earlier passes of the same
    step, and ``everywhere`` those of all weights."""
    return _Gradients(
        head=before + block.head_gradient,
        last_block=before or block.head_gradient,
        first_block=everywhere + block.embedding_gradient,
        embedding=everywhere + block.embedding_gradient,
    )


def _sharded_gradients(model: ModelShape, sharding: Sharding, *, before: int, everywhere: int) -> _Gradients:
    """Return the gradients of a rank of FSDP: shards in float32, and gradients that the ranks have not
    reduced yet. See :func:`_gradients`.

    The gradients of a block or of the head have the type of gathered weights. They are copied to a buffer in
    float32, which ranks reduce while the gradients of the next block are computed (``foreach_reduce`` and
    ``FSDPParamGroup.post_backward`` of PyTorch). If the head is tied to the embedding, its gradients are
    reduced with those of the embedding, at the end.
    """
    embedding, of_block = model.embedding, _of_block(model)
    waiting = sharding.gathered * embedding if model.is_tied else 0
    in_buffer = 0 if model.is_tied else FLOAT32 * embedding
    own, buffer = sharding.gathered * of_block, FLOAT32 * of_block
    if model.is_tied:
        # The gradients of head and embedding are added up, and copied to the buffer. At this moment, the
        # weights of two blocks, which :func:`_gathered` counts, are not gathered.
        at_end = (2 * sharding.gathered + FLOAT32) * embedding - 2 * own
    else:
        at_end = max(FLOAT32, sharding.gathered) * embedding
    return _Gradients(
        head=before + waiting + in_buffer,
        last_block=before + waiting + own + max(in_buffer, buffer),
        first_block=everywhere + waiting + own + buffer,
        embedding=everywhere + at_end,
    )


def _gathered(model: ModelShape, sharding: Sharding) -> int:
    """Return the bytes of gathered weights: those of the current block, and those of the next block, of the
    head or of the embedding, which are gathered in advance. A head that is tied to the embedding stays
    gathered during the whole pass."""
    block, ends = _of_block(model), model.embedding
    return sharding.gathered * (2 * block + ends if model.is_tied else block + max(block, ends))


def _of_block(model: ModelShape) -> int:
    """Return the number of weights of a transformer block, as a mean over all blocks."""
    outside = model.embedding * (1 if model.is_tied else 2)
    return (model.parameters - outside) // model.layers


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
