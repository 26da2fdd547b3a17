"""The GGUF targets as a table: which block format stores which weights, and who rounds them.

Names of formats are ggml's own. `token_embd` is most of the bytes of a multilingual encoder, so its type is
chosen here for every target and never left to llama.cpp's default, which keeps it at 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ringkas.errors import TargetError


class Rounding(Enum):
    """Who turns float weights into blocks."""

    NEAREST = "nearest"  # ours, by the gguf package: each weight to its nearest level
    LLAMA_CPP = "llama.cpp"  # llama_model_quantize: its scale search and its mixtures of types
    CALIBRATED = "calibrated"  # ours: each column's rounding error is repaid by the columns after it


@dataclass(frozen=True)
class GgufScheme:
    """One target. `encoding` ends the file's name; `precision` is its row in the floor table.

    `weights`, `table` and `positions` are the ggml types of the linear layers, of the token table and of the
    position table; `exceptions` gives other types to linear layers by the end of their tensor's name.
    `file_type` is ggml's number for the file as a whole (llama_ftype). With `importance`, llama.cpp rounds
    under an importance matrix: the types of the tensors stay the same, only which errors count more changes.
    """

    name: str
    encoding: str
    precision: str
    weights: str
    table: str
    file_type: int
    rounding: Rounding = Rounding.NEAREST
    positions: str = "F32"
    exceptions: Mapping[str, str] | None = None
    importance: bool = False

    @property
    def runs_the_model(self) -> bool:
        """Whether rounding goes by what calibration texts do in the model."""
        return self.importance or self.rounding is Rounding.CALIBRATED

    def linear_type(self, tensor: str) -> str:
        """The type asked for the linear layer `tensor`, for example `blk.0.ffn_down.weight`."""
        for ending, kind in (self.exceptions or {}).items():
            if tensor.endswith(ending):
                return kind
        return self.weights


_ALL = (
    GgufScheme("gguf-f32", "F32", "fp32", "F32", "F32", 0),
    GgufScheme("gguf-f16", "F16", "fp16", "F16", "F16", 1),
    GgufScheme("gguf-bf16", "BF16", "bf16", "BF16", "BF16", 32),
    GgufScheme("gguf-q8_0", "Q8_0", "8bit", "Q8_0", "Q8_0", 7),
    GgufScheme("gguf-q6_k", "Q6_K", "6bit", "Q6_K", "Q6_K", 18, Rounding.LLAMA_CPP),
    GgufScheme("gguf-q5_k_m", "Q5_K_M", "5bit", "Q5_K", "Q5_0", 17, Rounding.LLAMA_CPP),
    GgufScheme("gguf-q5_1", "Q5_1", "5bit", "Q5_1", "Q5_1", 9),
    GgufScheme("gguf-q5_0", "Q5_0", "5bit", "Q5_0", "Q5_0", 8),
    GgufScheme("gguf-q4_k_m", "Q4_K_M", "4bit", "Q4_K", "IQ4_NL", 15, Rounding.LLAMA_CPP, importance=True),
    GgufScheme("gguf-iq4_nl", "IQ4_NL", "4bit", "IQ4_NL", "IQ4_NL", 25, Rounding.LLAMA_CPP, importance=True),
    GgufScheme("gguf-q4_1", "Q4_1", "4bit", "Q4_1", "Q4_1", 3),
    GgufScheme("gguf-q4_0", "Q4_0", "4bit", "Q4_0", "Q4_0", 2),
    GgufScheme(
        "gguf-iq4_nl-gptq", "IQ4_NL-GPTQ", "4bit", "IQ4_NL", "IQ4_NL", 25, Rounding.CALIBRATED, "Q8_0"
    ),
    GgufScheme("gguf-q5_0-gptq", "Q5_0-GPTQ", "5bit", "Q5_0", "IQ4_NL", 8, Rounding.CALIBRATED, "Q8_0"),
)

GGUF_TARGETS: Mapping[str, GgufScheme] = {scheme.name: scheme for scheme in _ALL}

# What llama.cpp takes for a row that is no multiple of 256 (tensor_type_fallback in src/llama-quant.cpp);
# the last resort, for a row that is no multiple of 32 either, is F16.
_FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def fits(kind: str, row: int) -> bool:
    """Whether a row of `row` weights is a whole number of blocks of the ggml type `kind`."""
    import gguf

    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return row % block == 0


def fitting_type(kind: str, row: int) -> str:
    """The type that a row of `row` weights gets when `kind` is asked for."""
    if fits(kind, row):
        return kind
    kind = _FALLBACKS.get(kind, "F16")
    return kind if fits(kind, row) else "F16"


def gguf_scheme(target: str) -> GgufScheme:
    """The scheme of a target.

    Raises:
        TargetError: there is none of that name.
    """
    if target not in GGUF_TARGETS:
        raise TargetError(
            f"there is no GGUF target {target!r}", fix="Choose from: " + ", ".join(GGUF_TARGETS)
        )
    return GGUF_TARGETS[target]
