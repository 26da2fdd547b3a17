"""Whether a GGUF file is an encoder that the llama.cpp engine can run, judged by its head alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ringkas.errors import ArtifactError
from ringkas.families import FAMILIES
from ringkas.family import Gguf
from ringkas.runtimes.engines.llama_header import GgufHeader
from ringkas.spec import EncodingSpec

# llama.cpp's number of each pooling that it can do (llama_pooling_type).
POOLING_NUMBERS: Mapping[tuple[str, ...], int] = {("mean",): 1, ("cls",): 2, ("lasttoken",): 3}

_MOST_LAYERS, _WIDEST, _LONGEST = 512, 1 << 16, 1 << 20

# What is known of each architecture, from the families that become it.
_ROWS: Mapping[str, Gguf] = {
    row.architecture: row
    for family in FAMILIES.values()
    for row in (family.gguf, family.gguf_two_ways)
    if isinstance(row, Gguf)
}

# What the graph adds or multiplies as it is, so that only float32 will do.
_FLOAT_ONLY = ("norm.weight", ".bias", "token_types.weight")


def check_header(header: GgufHeader, spec: EncodingSpec, path: Path) -> None:
    """Raises `ArtifactError` unless llama.cpp can run the file and gives the vectors that `spec` promises."""
    for problem in _problems(header, spec):
        raise ArtifactError(
            f"{path} is not a GGUF file that can be run", why=problem, fix="Build or copy the artifact again"
        )


def _problems(header: GgufHeader, spec: EncodingSpec) -> Iterator[str]:
    if header.architecture not in _ROWS:
        yield f"it holds the architecture {header.architecture!r}, not {' or '.join(_ROWS)}"
    yield from _key_problems(header, spec)
    sizes = _sizes(header)
    bounds = {
        "width": _WIDEST,
        "inner": _WIDEST,
        "context": _LONGEST,
        "heads": _WIDEST,
        "head": _WIDEST,
        "shared": _WIDEST,
        "layers": _MOST_LAYERS,
    }
    for name, most in bounds.items():
        if not 1 <= sizes[name] <= most:
            yield f"it states {sizes[name]} for {name}"
    if sizes["queries"] != sizes["width"] and header.shape_key("attention.key_length") is None:
        yield f"its width {sizes['width']} is no multiple of its {sizes['heads']} heads"
    if sizes["queries"] % sizes["shared"]:
        yield f"its {sizes['heads']} heads cannot share keys {sizes['shared']} wide"
    if header.shape_key("attention.value_length") != header.shape_key("attention.key_length"):
        yield "its keys and values differ in width"
    if spec.max_length > sizes["context"]:
        yield f"its context of {sizes['context']} tokens is shorter than the manifest's {spec.max_length}"
    if spec.dimension != sizes["width"]:
        yield f"its vectors have {sizes['width']} dimensions, the manifest says {spec.dimension}"
    yield from _vocabulary_problems(header)
    yield from _tensor_problems(header, sizes)


def _key_problems(header: GgufHeader, spec: EncodingSpec) -> Iterator[str]:
    pooling = header.shape_key("pooling_type")
    if pooling is None:
        yield "it has no pooling_type: llama.cpp would give one vector a token"
    if pooling != POOLING_NUMBERS.get(spec.pooling.modes):
        yield f"its pooling_type is {pooling}, the manifest says {'+'.join(spec.pooling.modes)}"
    if not isinstance(header.shape_key("attention.causal"), bool):
        yield "it does not say whether its attention is causal"
    elif header.shape_key("attention.causal") and not FAMILIES[spec.family].causal:
        yield "its attention is causal, its family's is not"
    key = "layer_norm_rms_epsilon" if _ROWS[header.architecture].rms else "layer_norm_epsilon"
    if not isinstance(header.shape_key(f"attention.{key}"), float):
        yield f"it has no {key}"


def _sizes(header: GgufHeader) -> dict[str, int]:
    keys = {
        "width": "embedding_length",
        "inner": "feed_forward_length",
        "context": "context_length",
        "heads": "attention.head_count",
        "layers": "block_count",
        "head": "attention.key_length",
        "sharing": "attention.head_count_kv",
        "dense_inner": "dense_2_feat_out",
    }
    found = {name: header.shape_key(key) for name, key in keys.items()}
    sizes = {name: value if type(value) is int else 0 for name, value in found.items()}
    types = header.metadata.get("tokenizer.ggml.token_type_count")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    sizes["token_types"] = types if type(types) is int else 0
    sizes["vocabulary"] = len(tokens) if isinstance(tokens, list) else 0
    sizes["head"] = sizes["head"] or sizes["width"] // max(1, sizes["heads"])
    sizes["queries"] = sizes["head"] * sizes["heads"]
    sizes["shared"] = sizes["head"] * (sizes["sharing"] or sizes["heads"])
    sizes["three_widths"], sizes["two_inner"] = 3 * sizes["width"], 2 * sizes["inner"]
    return sizes


def _vocabulary_problems(header: GgufHeader) -> Iterator[str]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        yield "it has no list of tokens"
        return
    if len(set(tokens)) != len(tokens):
        yield "two of its tokens are equal"
    for key in ("scores", "token_type"):
        found = header.metadata.get(f"tokenizer.ggml.{key}")
        if found is not None and (not isinstance(found, tuple) or found[0] != len(tokens)):
            yield f"its {key} are not one a token"


def _tensor_problems(header: GgufHeader, sizes: Mapping[str, int]) -> Iterator[str]:
    expected = 0
    for template, names in _ROWS[header.architecture].shapes.items():
        shape = tuple(sizes[name] for name in names)
        layers = range(sizes["layers"]) if "{}" in template else range(1)
        for layer in layers:
            name = template.removesuffix("?").format(layer)
            tensor = header.tensors.get(name)
            if tensor is None:
                if not template.endswith("?"):
                    yield f"it lacks the tensor {name}"
                continue
            expected += 1
            if _without_ones(tensor.shape) != _without_ones(shape):
                yield f"its tensor {name} has the shape {tensor.shape}, not {shape}"
            if name.endswith(_FLOAT_ONLY) and tensor.kind != "F32":
                yield f"its tensor {name} is {tensor.kind}, not F32"
    if expected != len(header.tensors):
        yield f"it has {len(header.tensors) - expected} tensors that do not belong to the architecture"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    # llama.cpp's quantizer drops closing dimensions of 1 (a table of one token type).
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
