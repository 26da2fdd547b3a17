"""The witness: a reading that is wrong in any one way is refused; one that sees nothing is caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ringkas import load_reference_encoder, open_checkpoint, texts
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, RingkasError
from ringkas.runtimes.parity import witness
from ringkas.runtimes.parity.libraries import SentenceTransformers
from ringkas.runtimes.parity.witness import Claim, claim, examine, hear
from ringkas.spec import Pooling

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def folder(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(prompts={"query": "query: ", "passage": "passage: "}, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def claimed(checkpoint: Checkpoint) -> Claim:
    with load_reference_encoder(checkpoint) as encoder:
        return claim(checkpoint, encoder, texts.probe(["en"]))


def test_a_right_reading_is_witnessed(checkpoint: Checkpoint, claimed: Claim) -> None:
    heard = hear(checkpoint, claimed)
    assert (heard.library, heard.version[:2]) == ("sentence-transformers", "6.")
    assert heard.texts == len(claimed.texts) > len(texts.probe(["en"])["en"])
    assert heard.vectors > 10
    assert heard.difference < 1e-6


def misread(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    return replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, **changes))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pooling": Pooling(("cls",))}, "computes other vectors.*pooling"),
        ({"pooling": Pooling(("mean_sqrt_len_tokens",)), "normalize": False}, "computes other vectors"),
        ({"normalize": False}, "computes other vectors.*normalisation"),
        ({"max_length": 63}, "other token ids.*over the limit: 64 tokens there, 63 here.*max_seq_length"),
        ({"lower_case": True}, "other token ids.*do_lower_case"),
        ({"prompts": {"query": "query: ", "passage": "passage:"}}, "the prompt 'passage'"),
        ({"prompts": {"query": "query: "}}, "the prompt 'passage'"),
        ({"default_prompt_name": "query"}, "the default prompt.*default_prompt_name"),
    ],
)
def test_a_wrong_reading_is_refused(checkpoint: Checkpoint, wrong: dict[str, Any], message: str) -> None:
    """A witness that compared our reading with itself would pass each of these."""
    misreading = misread(checkpoint, **wrong)
    with pytest.raises(CheckpointError, match=message) as caught:
        examine(misreading, ["en"])
    assert "\n" not in str(caught.value)


def test_another_choice_of_prompt_is_recorded_not_refused(checkpoint: Checkpoint) -> None:
    """sentence-transformers looks for `document` first, and adds an empty one; here it is `passage`."""
    notes = examine(checkpoint, ["en"]).notes
    assert any("encode_document" in note and "''" in note and "'passage: '" in note for note in notes)


def test_other_weights_are_refused(folder: Path, claimed: Claim, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][20:] *= 1.01
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="computes other vectors"):
        hear(open_checkpoint(other), claimed)


def test_one_wrong_component_is_enough(checkpoint: Checkpoint, claimed: Claim) -> None:
    vectors = claimed.vectors.copy()
    vectors[3, 5] += 3e-5
    with pytest.raises(CheckpointError, match="computes other vectors"):
        hear(checkpoint, replace(claimed, vectors=vectors))
    vectors[3, 5] = np.nan
    with pytest.raises(CheckpointError, match="computes other vectors"):
        hear(checkpoint, replace(claimed, vectors=vectors))


def test_one_wrong_id_is_enough(checkpoint: Checkpoint, claimed: Claim) -> None:
    ids = list(claimed.ids)
    ids[2] = (*ids[2][:-1], ids[2][-1] + 1)
    with pytest.raises(CheckpointError, match="makes other token ids"):
        hear(checkpoint, replace(claimed, ids=tuple(ids)))


@pytest.mark.parametrize("rows", [(), (0,)])
def test_a_witness_that_was_shown_nothing_is_none(
    checkpoint: Checkpoint, claimed: Claim, rows: tuple[int, ...]
) -> None:
    with pytest.raises(RingkasError, match="zero texts prove nothing"):
        hear(checkpoint, replace(claimed, rows=rows, vectors=claimed.vectors[:0]))


def test_it_is_the_library_that_is_asked(
    checkpoint: Checkpoint, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A witness that repeats what it was told cannot pass: here the library says something else."""
    import sentence_transformers

    def encode(self: Any, inputs: Any, **options: Any) -> Any:
        single = isinstance(inputs, str)
        return np.ones(32, np.float32) if single else np.ones((len(inputs), 32), np.float32)

    monkeypatch.setattr(sentence_transformers.SentenceTransformer, "encode", encode)
    with pytest.raises(CheckpointError, match="computes other vectors"):
        hear(checkpoint, claimed)


def test_what_the_library_refuses_is_refused(checkpoint: Checkpoint, claimed: Claim, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(checkpoint.path, tmp_path / "broken"))
    (broken / "config_sentence_transformers.json").write_text(
        json.dumps({"requirements": {"sentence_transformers": ">99"}}), "utf-8"
    )
    with pytest.raises(CheckpointError, match=r"sentence-transformers itself refuses .*broken"):
        hear(replace(checkpoint, path=broken), claimed)


def test_a_plain_folder_is_held_against_transformers(folder: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(folder, tmp_path / "plain"))
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (plain / name).unlink()
    heard = examine(open_checkpoint(plain), ["en"])
    assert heard.library == "transformers"
    assert any("mean pooling and length one were assumed" in note for note in heard.notes)
    with pytest.raises(CheckpointError, match="computes other vectors"):
        examine(misread(open_checkpoint(plain), pooling=Pooling(("cls",))), ["en"])


def test_another_tokenizer_class_is_recorded_not_refused(
    tiny_unigram: dict[str, Any], small_checkpoint: Callable[..., Path]
) -> None:
    """transformers 5 rebuilds XLM-R's tokenizer: other ids for trailing spaces and written specials."""
    folder = small_checkpoint(tokenizer={**tiny_unigram, "normalizer": None})
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    config["tokenizer_class"] = "XLMRobertaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    heard = examine(open_checkpoint(folder), ["en"])
    assert any("XLMRobertaTokenizer" in note and "tokenizer.json" in note for note in heard.notes)


def test_missing_library_is_named_with_the_way_around(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentenceTransformers, "modules", ("absent_library",))
    with pytest.raises(
        RingkasError, match=r"absent-library is not installed.*ringkas\[export\].*--no-witness"
    ):
        witness.require_witness(checkpoint)


@pytest.mark.parametrize("asked", [True, False])
def test_the_manifest_says_who_bore_witness(checkpoint: Checkpoint, tmp_path: Path, asked: bool) -> None:
    from ringkas import build

    artifact = build(checkpoint.path, "pytorch-fp32", tmp_path, witness=asked)
    heard = artifact.manifest.witness
    assert heard is not None
    assert heard.library == ("sentence-transformers" if asked else "none")
    assert (heard.texts > 0) == (heard.vectors > 0) == asked


def test_a_build_that_the_witness_contradicts_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from ringkas import build_all

    with pytest.raises(CheckpointError, match="computes other vectors"):
        build_all(misread(checkpoint, normalize=False), ["pytorch-fp32"], tmp_path / "dist")
    assert not list((tmp_path / "dist").glob("*"))
