"""A checkpoint: a sentence-transformers or plain transformers folder, from disk or from the hub.

Only files that hold data are read: safetensors, JSON, tokenizer.json. Never a pickle, never remote code.
What every key of them does is in settings.py; each file is read into a struct of its own, so that a malformed
one is named with what is wrong in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from ringkas import remote_code, settings
from ringkas.builtin import BUILT_IN, NOTES, WEIGHTS_KEY
from ringkas.errors import CheckpointError
from ringkas.families import family_of
from ringkas.family import Family, Positions
from ringkas.files import expand, require_utf8, why_unreadable
from ringkas.json_files import convert, read_json
from ringkas.locate import Place, locate
from ringkas.modules import (
    MODULES_FILE,
    WEIGHTS,
    Dense,
    read_dense,
    read_modules,
    read_pooling,
)
from ringkas.spec import SIMILARITIES, EncodingSpec, Similarity
from ringkas.tokenizer_config import (
    TOKENIZER_CONFIG,
    declared_tokens,
    padding_side,
    tokenizer_config,
    transformer_config,
    truncation_side,
)
from ringkas.tokens import TOKENIZER_FILE, require_tokenizer
from ringkas.vocabulary import VOCABULARY_FILE

__all__ = ["SHARDED_WEIGHTS", "WEIGHTS", "Checkpoint", "Dense", "open_checkpoint"]

SHARDED_WEIGHTS = "model.safetensors.index.json"
_UNLIMITED = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit
# What the end of a class in `architectures` says of what it was trained to do.
_HEADS = (
    ("ForSequenceClassification", "a classifier or a reranker"),
    ("ForTokenClassification", "a tagger of tokens"),
    ("ForQuestionAnswering", "a finder of answers"),
    ("ForMultipleChoice", "a chooser among answers"),
    ("ForNextSentencePrediction", "a judge of neighbours"),
    ("Encoder", "one half of a pair of encoders"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk that passed every check that needs no weights.

    `path` is where the encoder is, `root` where its modules and its card are: another folder in layouts of
    old. `source` is what was asked for, `origin` what an artifact says it was made from: the hub id, the name
    of a built-in checkpoint, or a folder's bare name. `note` is what a reader must know of its weights.
    `vocabulary` is the certificate of a pruned vocabulary. `calibration_texts` are a
    user's own by language, which stand before the built-in ones. `remarks` are to be said to whoever converts
    it. `as_embedder` says that the encoder of another kind of model is meant.
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
    note: str = ""
    vocabulary: dict[str, Any] | None = None
    calibration_texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subfolder: str = ""
    remarks: tuple[str, ...] = ()
    as_embedder: bool = False

    @property
    def name(self) -> str:
        """A short name for files and model cards."""
        built_in = BUILT_IN.get(self.source)
        return built_in.title if built_in else self.origin.rsplit("/", 1)[-1]

    @property
    def root(self) -> Path:
        """The folder that was named: `path`, but for layouts that keep the encoder in a folder of its own."""
        return self.path.parents[len(Path(self.subfolder).parts) - 1] if self.subfolder else self.path

    @property
    def modular(self) -> bool:
        """Whether it is a sentence-transformers folder, which states its pooling."""
        return (self.root / MODULES_FILE).is_file()


class _Config(msgspec.Struct):
    hidden_size: int
    max_position_embeddings: int
    model_type: str | None = None
    pad_token_id: int | None = None
    vocab_size: int | None = None
    architectures: list[str] | None = None


class _Transformer(msgspec.Struct):
    max_seq_length: int | None = None
    do_lower_case: bool = False


class _SentenceTransformersConfig(msgspec.Struct):
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: Similarity | None = None


class _TokenizerConfig(msgspec.Struct):
    model_max_length: float | None = None
    max_len: float | None = None
    pad_token: str | dict[str, Any] | None = None


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _TokenizerModel(msgspec.Struct):
    vocab: list[msgspec.Raw] | dict[str, int] = {}
    dropout: float | None = None


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_AddedToken] = []
    model: _TokenizerModel = msgspec.field(default_factory=_TokenizerModel)
    truncation: dict[str, Any] | None = None
    padding: dict[str, Any] | None = None


class _Certificate(msgspec.Struct):
    languages: tuple[str, ...]


def open_checkpoint(
    model: str | Path, revision: str | None = None, *, as_embedder: bool = False
) -> Checkpoint:
    """Reads the checkpoint `model`: a folder, a hub id, or a built-in one: `demo` (all-MiniLM-L6-v2)
    or `demo-e5` (multilingual-e5-small, to within 4-bit rounding).

    Args:
        model: what to open. A `Path` is a path, also one called `demo`; as a string that folder is "./demo".
        revision: the hub's branch, tag or commit.
        as_embedder: the encoder of a classifier, reranker or tagger is meant, though no embedder.

    Raises:
        CheckpointError: it is missing, unsafe to load, incomplete, or of an unsupported kind.
    """
    if isinstance(model, Path):
        model = str(expand(model).absolute())
    place = locate(model, revision)
    require_utf8(place.path)
    root = place.path
    modules = read_modules(root)
    path = root / modules.transformer
    config = _config(path)
    family = family_of(config)
    read = convert(family.common(config), _Config, path / "config.json")
    settings.check_files(path)
    own_keys = {*family.config_names.values(), *family.fixed}
    common = {key: config[key] for key in config if key not in own_keys}
    remarks = settings.check_settings(path / "config.json", common, settings.CONFIG)
    remote_code.check_understood(path, config, remarks)
    if not as_embedder:
        _check_architectures(path, read.architectures or [], family)
    _check_weights(path, place)
    file, stated = transformer_config(path)
    remarks += _check_transformer(file, stated)
    pooling, said = read_pooling(root, modules, read.hidden_size)
    width = read.hidden_size * len(pooling.modes)
    dense = read_dense(root, modules, width)
    if modules.transformer:
        dense = tuple(replace(layer, folder=str(root / layer.folder)) for layer in dense)
    if dense and not pooling.include_prompt:
        raise CheckpointError(
            f"{root} leaves the prompt out of its pooling and has Dense modules after it",
            why="no artifact can do both: the engines pool inside the graph",
        )
    transformer = convert(stated, _Transformer, file)
    tokenizer, more = _tokenizer(path, read, family)
    own, said_too = _sentence_transformers(root, place)
    vocabulary: dict[str, Any] | None = read_json(root / VOCABULARY_FILE, dict[str, Any], None)
    spec = EncodingSpec(
        family=family.name,
        max_length=_max_length(path, transformer, family.max_positions(config)),
        dimension=dense[-1].out_features if dense else width,
        pooling=pooling,
        normalize=modules.normalizes,
        pad_id=_pad_id(path, tokenizer, read.pad_token_id),
        prompts={name: text or "" for name, text in (own.prompts or {}).items()},
        default_prompt_name=own.default_prompt_name,
        lower_case=transformer.do_lower_case,
        truncation_side=truncation_side(path, {"truncation": tokenizer.truncation}),
        similarity=own.similarity_fn_name or "cosine",
    )
    card = _model_card_metadata(root)
    return Checkpoint(
        path=path,
        source=model,
        origin=place.origin,
        revision=place.revision,
        config=config,
        family=family,
        spec=spec,
        dense=dense,
        languages=_languages(root, vocabulary) or place.facts.languages,
        licence=place.facts.licence or card.get("license"),
        note=NOTES.get(card.get(WEIGHTS_KEY, ""), ""),
        vocabulary=vocabulary,
        subfolder=modules.transformer,
        remarks=(*remarks, *said, *more, *said_too),
        as_embedder=as_embedder,
    )


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path / "config.json", dict[str, Any])
    remote_code.check_served(path, config)
    # Before anything else is missed in it: another family has other keys.
    remote_code.check_fixed(path, config, family_of(config))
    return config


def _check_architectures(path: Path, named: list[str], family: Family) -> None:
    strange = next((name for name in named if name not in family.architectures), None)
    if strange is None:
        return
    kind = next((kind for ending, kind in _HEADS if strange.endswith(ending)), "a class of another kind")
    raise CheckpointError(
        f"{path} holds a {strange}, which is no embedder",
        why=f"config.json names it in `architectures`: {kind}, whose vectors were trained for something else",
        fix="Where its encoder is meant all the same: --as-embedder (as_embedder=True)",
    )


def _check_weights(path: Path, place: Place) -> None:
    for file in (*path.glob("*.safetensors"), *path.glob(TOKENIZER_FILE)):
        if reason := why_unreadable(file):
            raise CheckpointError(
                f"{file} cannot be read",
                why=reason,
                fix="Copy the checkpoint again; of a Git-LFS pointer, run: git lfs pull",
            )
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


def _check_transformer(file: Path, stated: Mapping[str, Any]) -> list[str]:
    """The keys of sentence_bert_config.json, and those that it passes to the model."""
    for name in ("model_args", "model_kwargs"):
        strange = [key for key in stated.get(name) or {} if key not in settings.MODEL_ARGUMENTS]
        if strange:
            raise CheckpointError(
                f"{file} passes {', '.join(strange)} to the model ({name}), which is not supported",
                why="config.json alone says what the encoder is",
                fix="Write it into config.json",
            )
    return settings.check_settings(file, stated, settings.TRANSFORMER)


def _tokenizer(path: Path, config: _Config, family: Family) -> tuple[_Tokenizer, list[str]]:
    """`tokenizer.json`, checked with what stands around it, and remarks."""
    file = path / TOKENIZER_FILE
    require_tokenizer(file)
    tokenizer, stated = read_json(file, _Tokenizer), tokenizer_config(path)
    remarks = settings.check_settings(path / TOKENIZER_CONFIG, stated, settings.TOKENIZER)
    if tokenizer.model.dropout:
        raise CheckpointError(f"{file} has a dropout of merges", why="every run would make other tokens")
    vocabulary = tokenizer.model.vocab
    highest = max(vocabulary.values(), default=-1) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    rows, top = config.vocab_size, max([highest, *(token.id for token in tokenizer.added_tokens)])
    if rows is not None and top >= rows:
        raise CheckpointError(
            f"{file} makes the token id {top}, for which the embedding table has no row",
            why=f"config.json states {rows} rows (vocab_size)",
            fix="Save the model after model.resize_token_embeddings(len(tokenizer))",
        )
    _check_declared(path, tokenizer)
    side = padding_side(path, {"padding": tokenizer.padding})
    if side != "right" and family.positions is Positions.FROM_ZERO:
        raise CheckpointError(
            f"{path} pads on the left (padding_side)",
            why="its positions count the padding, so that a text's vector would depend on its neighbours",
            fix="Set padding_side to right where it was trained so",
        )
    return tokenizer, remarks


def _check_declared(path: Path, tokenizer: _Tokenizer) -> None:
    """Refuses tokens that other files name and `tokenizer.json` does not know: transformers adds new ids."""
    declared = declared_tokens(path)
    unknown = set(declared) - {token.content for token in tokenizer.added_tokens}
    vocabulary = tokenizer.model.vocab
    if unknown and isinstance(vocabulary, dict):
        unknown -= vocabulary.keys()
    elif unknown:
        unknown -= {str(msgspec.json.decode(entry)[0]) for entry in vocabulary}
    if unknown:
        token = sorted(unknown)[0]
        raise CheckpointError(
            f"{path / declared[token]} names the token {token!r}, which {TOKENIZER_FILE} does not know",
            why="transformers gives it a new id, for which the embedding table need not have a row",
            fix="Write the tokenizer's files anew: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), and resize the embeddings",
        )


def _sentence_transformers(root: Path, place: Place) -> tuple[_SentenceTransformersConfig, list[str]]:
    """Prompts and similarity: the file's, or where it has no prompts those of the table."""
    file = root / "config_sentence_transformers.json"
    similarity = read_json(file, dict[str, Any], {}).get("similarity_fn_name")
    if similarity not in (None, *SIMILARITIES):
        raise CheckpointError(
            f"{file} names the similarity {similarity!r}",
            fix="sentence-transformers compares by: " + ", ".join(SIMILARITIES),
        )
    stated = read_json(file, _SentenceTransformersConfig, _SentenceTransformersConfig())
    remarks = settings.check_settings(
        file, read_json(file, dict[str, Any], {}), settings.SENTENCE_TRANSFORMERS
    )
    # sentence-transformers 6 writes empty `query` and `document` prompts into every folder it saves.
    if not any((stated.prompts or {}).values()):
        stated = msgspec.structs.replace(stated, prompts=dict(place.facts.prompts))
    if stated.default_prompt_name is not None and stated.default_prompt_name not in (stated.prompts or {}):
        raise CheckpointError(
            f"{file} names the default prompt {stated.default_prompt_name!r}, which is not among its prompts"
        )
    return stated, remarks


def _max_length(path: Path, transformer: _Transformer, positions: int) -> int:
    # As sentence-transformers: what is passed to the tokenizer first, then its own limit, then the
    # tokenizer's; never past the position table.
    own, merged = read_json(path / TOKENIZER_CONFIG, dict[str, Any], {}), tokenizer_config(path)
    tokenizer = convert(merged, _TokenizerConfig, path / TOKENIZER_CONFIG)
    passed = (
        tokenizer.model_max_length if merged.get("model_max_length") != own.get("model_max_length") else None
    )
    stated = (
        passed or transformer.max_seq_length or tokenizer.model_max_length or tokenizer.max_len or _UNLIMITED
    )
    limit = int(min(stated, positions))
    if limit < 1:
        raise CheckpointError(f"{path} limits texts to {limit} tokens", fix="Correct max_seq_length")
    return limit


def _pad_id(path: Path, tokenizer: _Tokenizer, config_id: int | None) -> int:
    """The id that fills batches: the tokenizer's own, which may differ from the config's."""
    token = convert(tokenizer_config(path), _TokenizerConfig, path / TOKENIZER_CONFIG).pad_token
    content = token.get("content") if isinstance(token, dict) else token
    for added in tokenizer.added_tokens:
        if added.content == (content or "<pad>"):
            return added.id
    return config_id or 0


def _languages(path: Path, vocabulary: dict[str, Any] | None) -> tuple[str, ...]:
    if vocabulary is None:
        return ()
    return convert(vocabulary, _Certificate, path / VOCABULARY_FILE).languages


def _model_card_metadata(path: Path) -> dict[str, str]:
    """The simple `key: value` lines of the front matter of README.md."""
    card = path / "README.md"
    if not card.is_file():
        return {}
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    lines = re.findall(r"^(\w+): *(\S+) *$", match[1], re.MULTILINE) if match else []
    return dict(lines)
