"""Whole prunings: every file in step, vectors of covered text equal to the last bit, other tools load it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ringkas import texts as text_sets
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, CheckpointError, TargetError
from ringkas.export.build import prune_options
from ringkas.export.vocabulary.prune import PruneOptions, make_plan, prune_checkpoint
from ringkas.export.vocabulary.rewrite import copy_other_files
from ringkas.runtimes.encoder import load_reference_encoder
from ringkas.tensors import read_tensors
from ringkas.tokens import TextTokenizer
from ringkas.vocabulary import KEPT_IDS_FILE, VOCABULARY_FILE

Document = dict[str, Any]
MakeCheckpoint = Callable[..., Checkpoint]

FAMILIES = {
    "unigram": "xlm-roberta",
    "wordpiece": "bert",
    "byte-level-bpe": "modernbert",
    "byte-fallback-bpe": "modernbert",
}


def equal_on_covered(full: Checkpoint, pruned: Checkpoint, texts: list[str]) -> int:
    """Asserts that covered texts have equal ids and bit-identical vectors; returns how many there were."""
    kept = np.load(pruned.path / KEPT_IDS_FILE)
    rows = TextTokenizer(full.path, full.spec).encode(texts)
    covered = [text for text, ids in zip(texts, rows, strict=True) if np.isin(ids, kept).all()]
    with load_reference_encoder(full.path) as before, load_reference_encoder(pruned.path) as after:
        ids = before.tokenizer.encode(covered)
        assert [kept[row].tolist() for row in after.tokenizer.encode(covered)] == ids
        assert before.encode(covered, prompt="").tobytes() == after.encode(covered, prompt="").tobytes()
    return len(covered)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    place = tmp_path_factory.mktemp("demo") / "demo-en"
    return prune_checkpoint(open_checkpoint("demo"), PruneOptions(("en",), max_tokens=20_000), place)


def test_the_demo_is_smaller_and_the_same(demo: Checkpoint) -> None:
    texts = list(text_sets.probe(["en"])["en"])
    assert equal_on_covered(open_checkpoint("demo"), demo, texts) >= 20
    assert demo.config["vocab_size"] == 20_000
    vocabulary = json.loads((demo.path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert (demo.path / "vocab.txt").read_text(encoding="utf-8").splitlines() == list(vocabulary)


def test_the_demo_loads_in_sentence_transformers(demo: Checkpoint) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["The weather is lovely today.", "He drove to the stadium."]
    full = SentenceTransformer(str(open_checkpoint("demo").path), device="cpu").encode(texts)
    pruned = SentenceTransformer(str(demo.path), device="cpu").encode(texts)
    assert np.array_equal(full, pruned)


def test_the_certificate_says_what_was_measured(demo: Checkpoint) -> None:
    certificate = json.loads((demo.path / VOCABULARY_FILE).read_text())
    assert certificate["rows"] == {"before": 30522.0, "after": 20000.0}
    assert certificate["parameters"]["before"] - certificate["parameters"]["after"] == 10522 * 384
    english = certificate["by_language"]["en"]
    assert english["texts"] == len(text_sets.probe(["en"])["en"])
    assert english["tokens_kept"] > 0.99
    assert english["covered_bit_identical"] > 0
    assert english["predicted"]["by"] == "expected use"
    assert english["predicted"]["identical"] == pytest.approx(english["identical"], abs=0.1)
    assert "## Vocabulary: en" in (demo.path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_kind_through_each_family(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path, name: str
) -> None:
    full = random_checkpoint(small_documents[name], FAMILIES[name])
    pruned = prune_checkpoint(full, PruneOptions(("id", "ko"), max_tokens=1100), tmp_path / "pruned")
    ids = {entry["content"]: entry["id"] for entry in small_documents[name]["added_tokens"]}
    kept = np.load(pruned.path / KEPT_IDS_FILE)
    assert pruned.config["vocab_size"] == len(kept) <= 1100
    assert kept[pruned.config["pad_token_id"]] == ids["<pad>"]
    assert kept[pruned.config["eos_token_id"]] == ids["</s>"]
    decoder = json.loads((pruned.path / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {entry["content"]: int(kept[int(id)]) for id, entry in decoder.items()} == ids
    texts = [text for listed in text_sets.calibration(["id", "ko"]).values() for text in listed]
    assert equal_on_covered(full, pruned, texts) > 3


def test_transformers_loads_it_alike(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    full = random_checkpoint(small_documents["unigram"])
    pruned = prune_checkpoint(full, PruneOptions(("id",), max_tokens=900), tmp_path / "pruned")
    text, kept = "query: Buku itu ada di meja<mask>", np.load(pruned.path / KEPT_IDS_FILE)
    expected = AutoTokenizer.from_pretrained(full.path)(text)["input_ids"]
    tokenizer = AutoTokenizer.from_pretrained(pruned.path)
    assert kept[tokenizer(text)["input_ids"]].tolist() == expected
    assert tokenizer.mask_token_id in tokenizer(text)["input_ids"]
    assert AutoModel.from_pretrained(pruned.path).get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_the_prompts_and_every_character_are_kept(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    full = random_checkpoint(small_documents["unigram"])
    options = PruneOptions(("ko",), keep_all_characters=True, coverage=0.5)
    pruned = prune_checkpoint(full, options, tmp_path / "pruned")
    kept = set(np.load(pruned.path / KEPT_IDS_FILE).tolist())
    assert kept.issuperset(TextTokenizer(full.path, full.spec).encode(["query: "])[0])
    vocabulary = small_documents["unigram"]["model"]["vocab"]
    assert kept.issuperset(id for id, (piece, _) in enumerate(vocabulary) if len(piece) == 1)


def test_plain_sharded_folder_with_tied_heads(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    full = random_checkpoint(small_documents["wordpiece"], plain=True)
    weights = load_file(full.path / "model.safetensors")
    rows = weights["embeddings.word_embeddings.weight"].shape[0]
    renamed = {f"bert.{name}": tensor for name, tensor in weights.items()}
    half = len(renamed) // 2
    shards = dict(list(renamed.items())[:half]), dict(list(renamed.items())[half:])
    shards[1]["cls.predictions.decoder.weight"] = renamed["bert.embeddings.word_embeddings.weight"].clone()
    shards[1]["cls.predictions.bias"] = renamed["bert.embeddings.word_embeddings.weight"][:, 0].clone()
    (full.path / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file(shard, full.path / name, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, name)
    (full.path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    pruned = prune_checkpoint(
        open_checkpoint(full.path), PruneOptions(("id",), max_tokens=900), tmp_path / "out"
    )
    kept = np.load(pruned.path / KEPT_IDS_FILE)
    after = load_file(pruned.path / "model.safetensors")
    assert rows > len(kept)
    for name in (
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.weight",
        "cls.predictions.bias",
    ):
        before = {**shards[0], **shards[1]}[name]
        assert np.array_equal(before.numpy()[kept], after[name].numpy())
    assert not list(pruned.path.glob("*.index.json"))
    notes = json.loads((pruned.path / VOCABULARY_FILE).read_text())["notes"]
    assert any("cls.predictions.decoder.weight" in note for note in notes)


def test_an_unknown_tensor_with_a_row_a_token_is_an_error(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    full = random_checkpoint(small_documents["wordpiece"])
    weights = load_file(full.path / "model.safetensors")
    weights["another.table"] = weights["embeddings.word_embeddings.weight"].clone()
    save_file(weights, full.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"another\.table"):
        prune_checkpoint(full, PruneOptions(("id",)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_serves_a_language_without_a_list(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    file = tmp_path / "jv.txt.gz"
    lines = [f"Buku kuwi ana ing meja nomer {n} lan omah {n % 7}." for n in range(400)]
    file.write_bytes(gzip.compress("\n".join(lines).encode("utf-8")))
    full = random_checkpoint(small_documents["unigram"])
    with pytest.raises(TargetError, match="--corpus jv=FILE"):
        prune_checkpoint(full, PruneOptions(("jv",)), tmp_path / "out")
    options = PruneOptions(("jv",), corpora={"jv": (file,)}, max_tokens=600)
    certificate = json.loads(
        (prune_checkpoint(full, options, tmp_path / "out").path / VOCABULARY_FILE).read_text()
    )
    judged = certificate["by_language"]["jv"]
    assert judged["text"] == "the held-out part of the corpus"
    assert judged["identical"] > 0.9
    assert re.fullmatch(r"\d+ texts that neither chose nor judge", judged["predicted"]["by"])
    assert judged["predicted"]["identical"] == pytest.approx(judged["identical"], abs=0.1)
    chosen = certificate["selection"]["sources"]["jv"]
    assert chosen["corpus_texts"] + chosen["corpus_held_out_texts"] <= len(lines)
    assert judged["texts"] == chosen["corpus_held_out_texts"] > 10


def test_pruned_again_is_right_and_says_so(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    full = random_checkpoint(small_documents["unigram"])
    once = prune_checkpoint(full, PruneOptions(("id", "ko"), max_tokens=1000), tmp_path / "once")
    for tags, rows, said in (
        (("ko",), 700, "figures here compare"),
        (("ko", "th"), 900, "what th lost there"),
    ):
        twice = prune_checkpoint(once, PruneOptions(tags, max_tokens=rows), tmp_path / f"twice-{rows}")
        before, after = (np.load(one.path / KEPT_IDS_FILE) for one in (once, twice))
        # Both name ids of the first, full vocabulary, and what was dropped once does not come back.
        assert set(after.tolist()) <= set(before.tolist())
        assert len(after) == twice.config["vocab_size"] <= rows
        texts = list(text_sets.calibration(["ko"])["ko"])
        assert equal_on_covered(full, twice, texts) > 3
        (note,) = (note for note in twice.vocabulary["notes"] if "cut once before, to id, ko" in note)
        assert said in note
        assert note in (twice.path / "README.md").read_text(encoding="utf-8")


def test_weights_of_a_build_are_those_of_its_pruning() -> None:
    asked = prune_options(["ko", "en"], {}, 1000, {"ko": 3.0})
    assert asked is not None
    assert asked.weights == {"ko": 3.0}
    assert prune_options([], {}) is None
    with pytest.raises(TargetError, match="only with languages"):
        prune_options([], {}, None, {"ko": 3.0})


@pytest.mark.parametrize(
    ("language", "tags"), [("jv", ("jv", "JV")), ("jv", ("JV",)), ("fil", ("tl", "fil")), ("tl", ("fil",))]
)
def test_every_spelling_of_a_tag_is_one_corpus(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path,
    language: str, tags: tuple[str, ...],
) -> None:  # fmt: skip
    corpora = {tag: (tmp_path / f"{n}.txt",) for n, tag in enumerate(tags)}
    for (file,) in corpora.values():
        file.write_text("\n".join(f"Buku {file.stem} ana ing meja {n}." for n in range(200)), "utf-8")
    plan = make_plan(
        random_checkpoint(small_documents["unigram"]), PruneOptions((language,), corpora=corpora)
    )
    (counted,) = plan.corpora.values()
    # A tenth of the lines is for calibration.
    assert counted.texts + counted.held_out_texts == pytest.approx(180 * len(tags), rel=0.1)
    assert set(plan.corpora) == {language.tag for language in plan.languages}


def test_a_card_that_is_not_utf8_is_kept(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    full = random_checkpoint(small_documents["unigram"])
    (full.path / "README.md").write_bytes("# Größe".encode("latin-1"))
    pruned = prune_checkpoint(full, PruneOptions(("id",), max_tokens=900), tmp_path / "out")
    card = (pruned.path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# Gr")
    assert "## Vocabulary: id" in card


def test_an_artifact_s_own_files_stay_behind(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    (full / "parity").mkdir(parents=True)
    out.mkdir()
    for name in (
        "ringkas.json",
        "parity.json",
        "parity/probe.npz",
        "parity/search.npz",
        "compact.npz",
        "LICENSE",
    ):
        (full / name).write_text("of the full one", "utf-8")
    assert copy_other_files(full, out) == []
    assert [path.name for path in out.rglob("*")] == ["LICENSE"]


def test_only_what_belongs_to_a_checkpoint_is_copied(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    own = (
        "config.json", "tokenizer.json", "sentencepiece.bpe.model", "sentence_roberta_config.json", "NOTICE",
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
    )  # fmt: skip
    strange = (
        "train.jsonl", "notes.txt", "eval/results.csv", "runs/events.out", "checkpoint-500/config.json",
        "checkpoint-500/model.safetensors", "3_Other/config.json", "onnx-int8/ringkas.json", "optimizer.pt",
        "2_Dense/private.txt", ".env",
    )  # fmt: skip
    for name in (*own, *strange):
        (full / name).parent.mkdir(parents=True, exist_ok=True)
        (full / name).write_text("x", "utf-8")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    (full / "modules.json").write_text(json.dumps(modules), "utf-8")
    out.mkdir()
    notes = copy_other_files(full, out)
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copied == {*own, "modules.json"}
    for name in ("train.jsonl", "eval", "runs", "checkpoint-500", "onnx-int8", "optimizer.pt"):
        assert any(note.startswith(f"{name} was left out") for note in notes), name


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {"a": 5}}', '{"weight_map": []}', "\xff"])
def test_a_damaged_index_of_weights_is_named(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, index: str
) -> None:
    full = random_checkpoint(small_documents["unigram"])
    (full.path / "model.safetensors").unlink()
    (full.path / "model.safetensors.index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"index\.json is truncated or corrupt"):
        read_tensors(full.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PruneOptions(()), "no language"),
        (PruneOptions(("klingonese!",)), "BCP-47"),
        (PruneOptions(("xx",)), "BCP-47"),
        (PruneOptions(("su",)), "--corpus su=FILE"),
        (PruneOptions(("sr-Cyrl",)), "--corpus"),
        (PruneOptions(("en",), max_tokens=10), "too few"),
        (PruneOptions(("en",), max_tokens=10, coverage=0.9), "exclude"),
        (PruneOptions(("en",), coverage=1.5), "between"),
        (PruneOptions(("en",), corpora={"ko": (Path("x"),)}), "not among"),
    ],
)
def test_bad_options_say_what_to_do(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path,
    options: PruneOptions, message: str,
) -> None:  # fmt: skip
    with pytest.raises(TargetError, match=message):
        prune_checkpoint(random_checkpoint(small_documents["unigram"]), options, tmp_path / "out")


def test_an_existing_place_is_not_overwritten(
    small_documents: dict[str, Document], random_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="exists"):
        prune_checkpoint(
            random_checkpoint(small_documents["unigram"]), PruneOptions(("id",)), tmp_path / "out"
        )
