"""What one model architecture is made of: the columns of the table in families.py, and what each means.

Everything that loading, quantising, exporting or running needs to know about an architecture is a fact in its
row. tests/test_family_facts.py holds each fact against transformers' own model, so that a forgotten or
wrong one fails there under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Config = Mapping[str, Any]
# What a GGUF key may hold: a float becomes float32, an int uint32, a list an array.
GgufValue = bool | int | float | str | list[bool]


class Handling(Enum):
    """How a linear layer's float input becomes unsigned 8-bit integers, if it does."""

    CENTRED = "centred"  # static, each channel shifted and scaled: in LayerNorm's output a few stand far off
    STATIC = "static"  # one range for all channels
    ROW = "row"  # a range for each token: for values whose range differs between them
    CENTRED_ROW = "centred row"  # both: in RMSNorm's output, where the first token stands far off as well
    FLOAT = "float"  # not at all: only the weights are integers, in blocks, made float as the session is made

    @property
    def by_row(self) -> bool:
        """Whether each token has a range of its own."""
        return self in (Handling.ROW, Handling.CENTRED_ROW)


ATTENTION_INPUT, ATTENTION_OUTPUT = "attention input", "attention output"
FEED_FORWARD_INPUT, FEED_FORWARD_OUTPUT = "feed-forward input", "feed-forward output"
ROLE_NAMES = (ATTENTION_INPUT, ATTENTION_OUTPUT, FEED_FORWARD_INPUT, FEED_FORWARD_OUTPUT)


@dataclass(frozen=True)
class Role:
    """Linear layers of a transformer layer that share an input, by their names in that layer.

    `outliers` is how many channels of that input, those of the longest reach, are multiplied in float where
    each token has a range of its own, which one of them would stretch for all the others. With `delicate` 8
    bits leave the input float, for a model that passes every small error on.
    """

    name: str
    layers: tuple[str, ...]
    handling: Handling
    outliers: int = 0
    delicate: bool = False


class Positions(Enum):
    """Where a text's positions come from."""

    FROM_ZERO = "a table whose row 0 is the first token's"
    AFTER_PAD = "a table whose row pad_token_id + 1 is the first token's (RoBERTa)"
    FROM_TWO = "a table whose row 2 is the first token's, whatever the padding's id (MPNet)"
    ROTARY = "no table: queries and keys are rotated"


@dataclass(frozen=True)
class Gguf:
    """One family as llama.cpp knows it. Tensor names come from the gguf package's own map.

    Args:
        architecture: llama.cpp's name.
        shapes: the shape of each tensor of a file by the names of sizes (runtimes/engines/llama_check.py);
            `{}` is the layer, and a `?` marks what some checkpoints lack.
        epsilon: the config key of the norms' epsilon (None where there is none), and transformers' default.
        required: the values that config keys must have, because llama.cpp's graph has nothing else.
        keys: further keys of the file, without the architecture's prefix.
        rms: its norms are RMSNorms, whose epsilon has a key of its own.
        paired_rotary: it rotates neighbouring channels with each other, so that the rows of queries and keys
            come in another order than transformers', which rotates the halves of a head.
        norm_shift: what the file adds to the weights of norms, because transformers adds it at run time.
        windows: its graph has sliding windows; without them a text may be no longer than the window.
        dense: how many Dense modules after the pooling it can compute, without bias or activation.
        names: llama.cpp's names of transformers' tensors that the package's map has under other names only;
            `{}` is the layer.
    """

    architecture: str
    shapes: Mapping[str, tuple[str, ...]]
    epsilon: tuple[str | None, float]
    required: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    keys: Callable[[Config], Mapping[str, GgufValue]] = lambda config: {}
    rms: bool = False
    paired_rotary: bool = False
    norm_shift: float = 0.0
    windows: bool = False
    dense: int = 0
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One architecture.

    Args:
        name: the `model_type` in config.json.
        architectures: the classes that config.json may name, the encoder's own first; another class is no
            embedder.
        layers: the name of the list of transformer layers in transformers' encoder.
        roles: the linear layers of a transformer layer, in the order of computation.
        token_table: the name of the embedding table of tokens in the encoder.
        heads: ends of the names of tensors outside the encoder that have a row a token.
        positions: where positions come from.
        additive_mask: the encoder takes a mask of shape (batch, 1, 1, sequence) that is added to the scores:
            three operators in the graph instead of twenty. Else it gets the 0/1 mask as it is.
        token_types: the encoder is given token types, all zero.
        position_ids: the encoder is given the positions 0, 1, 2, ..., which saves it making them.
        loading: arguments for `from_pretrained` that leave out what plays no part in an embedding.
        plain_attention: attention is softmax(q k' + mask) v, with no rotation, window or bias between: what
            ONNX Runtime's MultiHeadAttention computes.
        biased_attention: the name, in a transformer layer, of an attention module that computes
            softmax(q k' + bias + mask) v of its linear layers `q`, `k`, `v` and `o` by itself, past
            transformers' attention interface: the eager form is the only one. Empty for others.
        gated: the feed-forward's activation multiplies a second product (a gate).
        grouped_heads: several query heads may share a key and value head (`num_key_value_heads`).
        causal: a token attends to itself and to those before it, unless the configuration says otherwise.
        final_norm: the name of the norm after the last layer, where the encoder is a table of tokens, layers
            that are alike and that norm, so that it can be run a layer at a time. Empty for others.
        two_ways: the config keys that say otherwise, each with the value that does.
        config_names: what its config.json calls the sizes that most call `hidden_size` and so on.
        defaults: the sizes that transformers' class takes where config.json states none: for families of
            which such checkpoints were published.
        fixed: keys of config.json that transformers' class does not read and code of a checkpoint's own does,
            with the values at which both compute the same.
        gguf: as llama.cpp knows it, or why it cannot become a GGUF file.
        gguf_two_ways: the same where a causal family attends both ways, if llama.cpp has a graph for that.
    """

    name: str
    architectures: tuple[str, ...]
    layers: str
    roles: tuple[Role, ...]
    token_table: str
    heads: tuple[str, ...]
    positions: Positions
    gguf: Gguf | str
    additive_mask: bool = False
    token_types: bool = False
    position_ids: bool = False
    loading: Mapping[str, Any] = field(default_factory=dict)
    plain_attention: bool = False
    biased_attention: str = ""
    gated: bool = False
    grouped_heads: bool = False
    causal: bool = False
    final_norm: str = ""
    two_ways: Mapping[str, Any] = field(default_factory=dict)
    gguf_two_ways: Gguf | str | None = None
    config_names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def value(self, config: Config, name: str) -> Any:
        """The value of the config key that most families call `name`; None where there is none."""
        return config.get(self.config_names.get(name, name), self.defaults.get(name))

    def common(self, config: Config) -> dict[str, Any]:
        """The configuration with every size under the name that most families use."""
        named = {name: config[own] for name, own in self.config_names.items() if own in config}
        return {**self.defaults, **config, **named}

    def is_causal(self, config: Config) -> bool:
        """Whether a token attends only to itself and to those before it."""
        return self.causal and not any(config.get(key) == value for key, value in self.two_ways.items())

    def gguf_of(self, config: Config) -> Gguf | str:
        """As llama.cpp knows an encoder of that configuration, or why it does not."""
        other = self.gguf_two_ways if self.causal and not self.is_causal(config) else None
        return other or self.gguf

    def position_offset(self, config: Config) -> int:
        """The first position id of a text: rows before it in the position table are never used by text."""
        if self.positions is Positions.FROM_TWO:
            return 2
        if self.positions is not Positions.AFTER_PAD:
            return 0
        pad_id = config.get("pad_token_id")
        return (1 if pad_id is None else int(pad_id)) + 1

    def max_positions(self, config: Config) -> int:
        """The longest sequence, in tokens, that the position table (or rotary range) allows."""
        return int(self.value(config, "max_position_embeddings")) - self.position_offset(config)
