"""Load a base model, an adapter or the weights of a checkpoint, with the right dtype and precision."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from peft import PeftModel, set_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from transformers import (
    AutoConfig,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.distributed.fsdp import is_fsdp_managed_module
from transformers.utils.logging import disable_progress_bar

from tunegate_trainer.models.architecture import attention_of, auto_class
from tunegate_trainer.models.fused_layers import fuse_layers
from tunegate_trainer.process.errors import SourceNotFoundError

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Shards(NamedTuple):
    """How FSDP shards a model over several ranks."""

    ranks: int
    in_bfloat16: bool
    """Whether each rank gathers weights and computes in bfloat16 instead of float32. Shards, sums of
    gradients and the optimizer are in float32."""

    def config(self) -> DistributedConfig:
        """Return the configuration with which transformers shards a model while it loads it."""
        return DistributedConfig(fsdp_size=self.ranks, fsdp_mixed_precision=self.in_bfloat16)


def load_base(
    folder: Path,
    dtype: str,
    device: torch.device,
    quantization: str | None = None,
    shards: Shards | None = None,
) -> PreTrainedModel:
    """Load the model in ``folder`` to ``device``, tensor by tensor, without a copy in host memory.

    ``dtype`` is ``bfloat16``, ``float16`` or ``float32``, and ``quantization`` is ``NF4`` or None. If
    ``shards`` is given, the weights are sharded over several ranks. Weights are read only from safetensors,
    and no custom code of the model runs. From the model's generation config, only the special tokens are
    kept: settings such as temperature are dropped, because gates evaluate greedy outputs.
    """
    if not any(folder.glob("*.safetensors")):
        raise SourceNotFoundError(
            f"there are no safetensors weights in {Path(*folder.parts[-2:])} on the storage volume",
            "check whether files on the volume were removed",
        )
    disable_progress_bar()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    model: PreTrainedModel = auto_class(config).from_pretrained(
        folder,
        dtype=_DTYPES[dtype],
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        attn_implementation=attention_of(config),
        **({"quantization_config": _nf4(dtype)} if quantization else {}),
        **({"distributed_config": shards.config()} if shards else {"device_map": {"": device}}),
    )
    model.generation_config = _special_tokens(model.generation_config)
    if not shards:
        fuse_layers(model)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would repack weights at the first evaluation, and then compute no gradients.
            vars(module)["support_avx512bf16_for_cpu"] = False
    return model


def generation_config(folder: Path) -> GenerationConfig:
    """Return the generation config that :func:`load_base` sets: only the model's special tokens."""
    try:
        shipped = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # without generation_config.json, transformers takes them from config.json
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        shipped = GenerationConfig.from_model_config(config)
    return _special_tokens(shipped)


def _special_tokens(shipped: Any) -> GenerationConfig:
    return GenerationConfig(
        bos_token_id=shipped.bos_token_id,
        eos_token_id=shipped.eos_token_id,
        pad_token_id=shipped.pad_token_id,
    )


def _nf4(dtype: str) -> BitsAndBytesConfig:
    """Return the config of QLoRA (arXiv 2305.14314): 4-bit NormalFloat with double quantization."""
    make: Callable[..., BitsAndBytesConfig] = BitsAndBytesConfig
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_DTYPES[dtype],
    )


def hub_name(uri: str) -> str:
    """Return the name by which users load a base model: ``ORG/NAME`` for ``hf://ORG/NAME``, else the URI."""
    return uri.removeprefix("hf://")


def load_adapter(base: PreTrainedModel, folder: Path, *, trainable: bool) -> Any:
    """Load the LoRA adapter in ``folder`` around ``base``, in float32. Returns a ``peft.PeftModel``."""
    return PeftModel.from_pretrained(base, str(folder), is_trainable=trainable, torch_device=str(base.device))


def load_weights(model: Any, checkpoint: Path, meet: Callable[[], None]) -> None:
    """Load a checkpoint's weights into ``model``, a ``peft.PeftModel`` or a whole model in float32.

    If the model is sharded, rank 0 reads all weights, while the other ranks wait in ``meet``, a barrier.
    """
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
        return
    # Not directly from the files: for many architectures, tensor names differ from those in the model.
    if not is_sharded(model):
        model.load_state_dict(_whole_weights(checkpoint))
        return
    weights = _whole_weights(checkpoint) if dist.get_rank() == 0 else {}
    meet()
    set_model_state_dict(model, weights, options=FROM_FIRST)


def _whole_weights(checkpoint: Path) -> dict[str, Any]:
    weights: dict[str, Any] = load_base(checkpoint, "float32", torch.device("cpu")).state_dict()
    return weights


FROM_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
"""Options to load the state of a sharded model from rank 0, so that the whole state is in memory only once
per node."""


def is_sharded(model: Any) -> bool:
    """Return whether the weights of ``model`` are sharded over several ranks."""
    return is_fsdp_managed_module(model)


@contextmanager
def training_precision(model: Any) -> Iterator[None]:
    """Within this block, a GPU computes losses in bfloat16, also with weights in float32: those of a model or
    of an adapter. Their gradients and the optimizer stay in float32."""
    on_gpu = model.device.type == "cuda"
    with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu), adapter_precision(model):
        yield


def adapter_precision(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which PEFT does not cast the inputs of an adapter to float32 on a GPU.

    The backward pass needs it too: it may compute activations again, with the same data types as before.
    """
    context: AbstractContextManager[Any] = disable_input_dtype_casting(model, model.device.type == "cuda")
    return context


def evaluation_precision(device: torch.device, *, whole: bool) -> torch.autocast:
    """Return a context in which a GPU multiplies float32 weights in bfloat16, if all weights are trained.

    ``whole`` is True if all weights are trained. Otherwise the context changes nothing: a model with an
    adapter is evaluated as a server would load it, with a base in its own data type.
    """
    return torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda" and whole)


def no_gradients(model: Any) -> AbstractContextManager[Any]:
    """Return a context without gradients. It is not inference mode for a sharded model, because FSDP keeps
    buffers that are used again outside of this context."""
    return torch.no_grad() if is_sharded(model) else torch.inference_mode()
