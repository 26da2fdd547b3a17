"""The reference: one PyTorch module that everything else is traced from and compared with.

(input_ids, attention_mask) -> (last_hidden_state, sentence_embedding), the second pooled, normalised and
always float32. Pooling follows sentence-transformers; a test holds it equal to `SentenceTransformer.encode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ringkas.checkpoint import WEIGHTS, Checkpoint, Dense
from ringkas.errors import CheckpointError, MissingExtra
from ringkas.families import FAMILIES
from ringkas.family import Family
from ringkas.remote_code import check_tensors
from ringkas.runtimes.claimed_sizes import check_claims
from ringkas.runtimes.unused_tensors import meaningful, remark_on
from ringkas.spec import EncodingSpec
from ringkas.tensors import read_tensors

# The smallest number of tokens or norm that is divided by, as in sentence-transformers and F.normalize.
_MIN_COUNT, _MIN_NORM = 1e-9, 1e-12


class Reference(nn.Module):
    """The encoder, pooling, any Dense layers and normalisation of a checkpoint.

    Args:
        encoder: the transformers model.
        spec: pooling and normalisation.
        dense: layers between pooling and normalisation.
    """

    def __init__(self, encoder: nn.Module, spec: EncodingSpec, dense: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.dtype = next(encoder.parameters()).dtype
        self.family = FAMILIES[spec.family]
        self.modes = spec.pooling.modes
        self.dense = dense or nn.Identity()
        self.normalize = spec.normalize
        self.unused: tuple[str, ...] = ()  # tensors of the file that the encoder has no place for

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Integers (batch, sequence) to float32 (batch, sequence, hidden) and (batch, dimension)."""
        inputs = encoder_inputs(self.family, input_ids, attention_mask, self.dtype)
        hidden = self.encoder(**inputs).last_hidden_state.float()
        return hidden, self.pooled(hidden, attention_mask)

    def pooled(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Float32 (batch, sequence, hidden) to float32 (batch, dimension)."""
        pooled = [POOLERS[mode](hidden, attention_mask) for mode in self.modes]
        vectors: Tensor = self.dense(torch.cat(pooled, dim=-1))
        if self.normalize:
            # Not F.normalize: its decomposition defeats ONNX Runtime's shape inference and so its fusions.
            norm = torch.sqrt((vectors * vectors).sum(dim=-1, keepdim=True))
            vectors = vectors / norm.clamp(min=_MIN_NORM)
        return vectors


def encoder_inputs(
    family: Family, input_ids: Tensor, attention_mask: Tensor, dtype: torch.dtype
) -> dict[str, Tensor]:
    """What a family's encoder is called with: the numbers that it would make itself, in fewer operators."""
    given = {"input_ids": input_ids, "attention_mask": attention_mask}
    if family.additive_mask:
        # What transformers makes of a mask of two axes traces to twenty operators; this is three.
        added = (1.0 - attention_mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min
        given["attention_mask"] = added
    if family.token_types:
        given["token_type_ids"] = torch.zeros_like(input_ids)
    if family.position_ids:
        given["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    return given


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden, mask) / _count(mask)


def _mean_sqrt_length(hidden: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden, mask) / torch.sqrt(_count(mask))


def _cls(hidden: Tensor, mask: Tensor) -> Tensor:
    return _token_at(hidden, mask.to(torch.int32).argmax(dim=1))


def _last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    return _token_at(hidden, (mask * positions).argmax(dim=1))


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(hidden, weights) / _count(weights)


def _sum(hidden: Tensor, weights: Tensor) -> Tensor:
    return (hidden * weights.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)


def _count(weights: Tensor) -> Tensor:
    return weights.to(torch.float32).sum(dim=1, keepdim=True).clamp(min=_MIN_COUNT)


def _token_at(hidden: Tensor, index: Tensor) -> Tensor:
    index = index.to(torch.int64).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return torch.gather(hidden, 1, index).squeeze(1)


POOLERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}


def load_reference(
    checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> Reference:
    """The checkpoint's weights in `dtype`, in evaluation mode; pooling and normalisation stay float32.

    Raises:
        CheckpointError: the weights are truncated, incomplete, or do not fit the configuration.
    """
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging as transformers_logging
    except ModuleNotFoundError:
        raise MissingExtra("transformers", "pytorch") from None
    check_claims(checkpoint, read_tensors(checkpoint.path))
    _check_headers(checkpoint)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False, local_files_only=True)
        config.use_cache = False  # a decoder's keys and values are for generating
        encoder, info = AutoModel.from_pretrained(
            checkpoint.path,
            config=config,
            dtype=dtype,
            attn_implementation="eager" if checkpoint.family.biased_attention else attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, by name
            **checkpoint.family.loading,
        )
    except Exception as error:  # whatever a strange value of config.json leads to in transformers
        raise CheckpointError(
            f"the weights of {checkpoint.path} cannot be loaded", why=_first_line(error)
        ) from None
    unfit = sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})
    if unfit:
        raise CheckpointError(
            f"the weights of {checkpoint.path} do not fit its config.json",
            why=f"tensors that are missing or differ in shape: {', '.join(unfit[:3])}, {len(unfit)} in all",
        )
    check_unused(checkpoint, encoder, info["unexpected_keys"])
    reference = Reference(encoder, checkpoint.spec, dense_of(checkpoint)).eval()
    reference.unused = tuple(info["unexpected_keys"])
    return reference


def check_unused(checkpoint: Checkpoint, encoder: nn.Module, unused: Sequence[str]) -> None:
    """Refuses tensors of the files that the encoder has no place for, where they carry meaning."""
    lost = meaningful(unused)
    if lost:
        raise CheckpointError(
            f"{checkpoint.path} holds tensors that its {type(encoder).__name__} does not use",
            why=f"they change what it computes: {', '.join(lost[:3])}, {len(lost)} in all",
            fix="Merge adapters into the base weights first, or use a checkpoint without them",
        )
    check_tensors(checkpoint.path, checkpoint.config, remark_on(unused))


def dense_of(checkpoint: Checkpoint) -> nn.Module | None:
    """The Dense modules after the pooling, one after another; None where there are none."""
    layers = [_dense_layer(checkpoint, layer) for layer in checkpoint.dense]
    return nn.Sequential(*layers) if layers else None


def _dense_layer(checkpoint: Checkpoint, layer: Dense) -> nn.Module:
    from safetensors.torch import load_file

    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
    weights = load_file(checkpoint.path / layer.folder / WEIGHTS)
    try:
        linear.load_state_dict(
            {name.removeprefix("linear."): value.float() for name, value in weights.items()}
        )
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights of {checkpoint.path / layer.folder} do not fit its config.json",
            why=_first_line(error),
        ) from None
    return nn.Sequential(linear, nn.Tanh()) if layer.activation == "tanh" else linear


def _check_headers(checkpoint: Checkpoint) -> None:
    """Opens every safetensors file once: a truncated one is named before transformers gets to it."""
    from safetensors import SafetensorError, safe_open

    files = list(checkpoint.path.glob("*.safetensors"))
    for file in [*files, *(checkpoint.path / layer.folder / WEIGHTS for layer in checkpoint.dense)]:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file} is truncated or corrupt", why=_first_line(error), fix="Fetch the checkpoint again"
            ) from None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
