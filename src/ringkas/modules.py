"""The modules of a sentence-transformers folder: what comes after the encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ringkas import settings
from ringkas.errors import CheckpointError
from ringkas.files import is_inside
from ringkas.json_files import convert, read_json
from ringkas.spec import LEGACY_POOLING_KEYS, POOLING_MODES, Pooling

WEIGHTS = "model.safetensors"
MODULES_FILE = "modules.json"
_SUPPORTED = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")


@dataclass(frozen=True)
class Dense:
    """A linear layer after pooling (sentence-transformers' Dense): its folder, relative to the checkpoint."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str  # "identity" or "tanh"


@dataclass(frozen=True)
class Modules:
    """What `modules.json` says; a plain transformers folder has none.

    Args:
        transformer: the folder of the encoder, relative to the checkpoint: empty but for old layouts.
        listed: kind and folder of each module, in order; empty for a plain folder.
    """

    transformer: str
    listed: tuple[tuple[str, str], ...]

    @property
    def normalizes(self) -> bool:
        """Whether vectors get length one: a plain folder's are assumed to."""
        return not self.listed or any(kind == "Normalize" for kind, _ in self.listed)


class _Module(msgspec.Struct):
    type: str
    path: str = ""
    name: str | None = None


class _PoolingConfig(msgspec.Struct):
    pooling_mode: str | tuple[str, ...] | None = None
    include_prompt: bool = True


class _DenseConfig(msgspec.Struct):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False


def read_modules(path: Path) -> Modules:
    """The modules of the folder `path`.

    Raises:
        CheckpointError: there is one that is not supported, or they come in another order.
    """
    file = path / MODULES_FILE
    listed, names = [], set()
    for stated in read_json(file, list[Any], []):
        entry = convert(stated, _Module, file)
        settings.check_settings(file, stated, settings.MODULE)
        kind = entry.type.rsplit(".", 1)[-1]  # 5.x and 6.x moved the classes; the last part stayed
        if kind not in _SUPPORTED or not entry.type.startswith("sentence_transformers."):
            raise CheckpointError(
                f"the sentence-transformers module {entry.type} in {file} is not supported",
                fix="Supported modules: Transformer, Pooling, Dense, Normalize",
            )
        if not is_inside(entry.path):
            raise CheckpointError(f"{file} names {entry.path!r}, which leaves the folder")
        if entry.name is not None and entry.name in names:
            raise CheckpointError(
                f"{file} has two modules named {entry.name!r}",
                why="sentence-transformers keeps the last alone",
            )
        names.add(entry.name)
        listed.append((kind, entry.path))
    kinds = [kind for kind, _ in listed if kind != "Dropout"]
    # Transformer, Pooling, any Dense, perhaps Normalize: the order that the graph has.
    if listed and not re.fullmatch(r"Transformer Pooling( Dense)*( Normalize)?", " ".join(kinds)):
        raise CheckpointError(
            f"the modules of {file} come as {', '.join(kinds)}",
            fix="Supported: Transformer, Pooling, any number of Dense, then Normalize or nothing",
        )
    for kind, folder in listed:
        if kind == "Normalize":
            config = path / folder / "config.json"
            settings.check_settings(config, read_json(config, dict[str, Any], {}), settings.NORMALIZE)
    return Modules(next((folder for kind, folder in listed if kind == "Transformer"), ""), tuple(listed))


def read_pooling(path: Path, modules: Modules, hidden_size: int) -> tuple[Pooling, list[str]]:
    """How tokens are pooled, and what is to be said of keys that nothing knows."""
    folder = next((folder for kind, folder in modules.listed if kind == "Pooling"), None)
    if folder is None:
        return Pooling(), []
    file = path / folder / "config.json"
    stated, flags = read_json(file, _PoolingConfig), read_json(file, dict[str, Any])
    remarks = settings.check_settings(file, flags, settings.POOLING)
    if stated.pooling_mode is None:  # the older form: one boolean a mode
        modes = tuple(mode for mode, key in LEGACY_POOLING_KEYS.items() if flags.get(key)) or ("mean",)
    else:
        modes = (stated.pooling_mode,) if isinstance(stated.pooling_mode, str) else stated.pooling_mode
    if list(modes) != sorted(modes, key=lambda mode: [*POOLING_MODES, mode].index(mode)):
        raise CheckpointError(
            f"{file} concatenates {', '.join(modes)} in an order of its own",
            why="the form that every version of sentence-transformers reads has one order",
            fix="Supported order: " + ", ".join(POOLING_MODES),
        )
    for mode in modes:
        if mode not in POOLING_MODES:
            raise CheckpointError(
                f"{file} names the pooling mode {mode!r}", fix="Supported: " + ", ".join(POOLING_MODES)
            )
    width = flags.get("embedding_dimension", flags.get("word_embedding_dimension", hidden_size))
    if width != hidden_size:
        raise CheckpointError(f"{file} pools vectors of {width} values, but the encoder's have {hidden_size}")
    return Pooling(modes, stated.include_prompt), remarks


def read_dense(path: Path, modules: Modules, width: int) -> tuple[Dense, ...]:
    """The Dense modules, the first of which takes `width` values."""
    layers = []
    for kind, folder in modules.listed:
        if kind != "Dense":
            continue
        layer = _dense(path, folder)
        if layer.in_features != width:
            raise CheckpointError(
                f"the Dense module {path / folder} takes {layer.in_features} values, but gets {width}"
            )
        width = layer.out_features
        layers.append(layer)
    return tuple(layers)


def _dense(path: Path, folder: str) -> Dense:
    file = path / folder / "config.json"
    config = read_json(file, _DenseConfig)
    settings.check_settings(file, read_json(file, dict[str, Any]), settings.DENSE)
    activation = config.activation_function.rsplit(".", 1)[-1].lower()
    known = config.activation_function.startswith("torch.") and activation in ("identity", "tanh")
    if not known or config.use_residual:
        odd = "a residual connection" if config.use_residual else f"the activation {activation!r}"
        raise CheckpointError(
            f"the Dense module {file} uses {odd}", fix="Supported: Identity or Tanh, without a residual"
        )
    if not (path / folder / WEIGHTS).is_file():
        raise CheckpointError(f"{path / folder} has no {WEIGHTS}", why="a pickle is never loaded")
    return Dense(folder, config.in_features, config.out_features, config.bias, activation)
