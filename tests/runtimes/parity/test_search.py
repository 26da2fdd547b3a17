"""The cost at search: nothing for the same model, seen for a worse one, and carried by the artifact."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringkas import build, load_reference_encoder, open_artifact, verify
from ringkas.errors import ArtifactError
from ringkas.export.model_card import model_card
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.parity.search import (
    SEARCH_FILE,
    Asked,
    SearchProbe,
    compare_search,
    load_search_probe,
    make_search_probe,
    save_search_probe,
    search_failures,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_reference_encoder("demo")


@pytest.fixture(scope="module")
def probe(encoder: Encoder) -> SearchProbe:
    return make_search_probe(encoder, ["en"])


def test_the_same_model_loses_nothing(encoder: Encoder, probe: SearchProbe, tmp_path: Path) -> None:
    save_search_probe(probe, tmp_path)  # float16 on disk
    stored = load_search_probe(tmp_path)
    assert stored is not None
    assert stored["en"].questions == probe["en"].questions
    (one,) = compare_search(encoder, stored)
    assert (one.language, one.questions, one.passages) == ("en", 20, 40)
    assert one.ndcg_at_10 == one.reference_ndcg_at_10 > 0.8
    assert (one.low, one.high, one.top10_overlap) == (0, 0, 1)
    assert search_failures([one]) == ()


def test_languages_are_encoded_together_and_told_apart(encoder: Encoder, probe: SearchProbe) -> None:
    together = make_search_probe(encoder, ["ko", "en"])
    (alone,) = make_search_probe(encoder, ["ko"]).values()
    for expected, found in ((alone, together["ko"]), (probe["en"], together["en"])):
        assert found.questions == expected.questions
        np.testing.assert_allclose(found.query_vectors, expected.query_vectors, atol=1e-3)
        np.testing.assert_allclose(found.passage_vectors, expected.passage_vectors, atol=1e-3)
    assert np.abs(together["ko"].query_vectors - together["en"].query_vectors).max() > 0.1


def test_a_language_without_questions_has_no_probe(encoder: Encoder) -> None:
    assert make_search_probe(encoder, ["fi"]) == {}


def test_the_score_is_ndcg(encoder: Encoder, probe: SearchProbe) -> None:
    asked = probe["en"]
    similar = asked.query_vectors.astype(np.float64) @ asked.passage_vectors.astype(np.float64).T
    gains = []
    for row, scores in enumerate(similar):
        order = sorted(range(40), key=lambda place: -scores[place])
        gain = sum(1 / math.log2(rank + 2) for rank in range(10) if order[rank] // 2 == row)
        gains.append(gain / (1 + 1 / math.log2(3)))
    (one,) = compare_search(encoder, probe)
    assert one.reference_ndcg_at_10 == pytest.approx(np.mean(gains))


@pytest.mark.parametrize("which", ["query_vectors", "passage_vectors"])
def test_a_better_reference_is_seen(encoder: Encoder, probe: SearchProbe, which: str) -> None:
    """Where the artifact's vectors are good and the reference's shuffled, the artifact is no worse ..."""
    vectors = getattr(probe["en"], which)
    shuffled = {"en": replace(probe["en"], **{which: np.roll(vectors, 5, axis=0)})}
    (one,) = compare_search(encoder, shuffled)
    assert one.low > 0
    assert one.top10_overlap < 0.6
    assert search_failures([one]) == ()
    # ... and the other way about it falls short.
    worse = msgspec.structs.replace(one, low=-one.high, high=-one.low)
    assert search_failures([worse])[0].startswith("en: nDCG@10 on 20 questions is ")


def test_a_loss_that_chance_explains_is_no_failure(encoder: Encoder, probe: SearchProbe) -> None:
    (one,) = compare_search(encoder, probe)
    assert search_failures([msgspec.structs.replace(one, low=-0.3, high=-0.049)]) == ()
    assert search_failures([msgspec.structs.replace(one, low=-0.3, high=-0.051)]) != ()


def test_vectors_that_are_no_measurement_are_refused(encoder: Encoder, probe: SearchProbe) -> None:
    narrow = replace(probe["en"], query_vectors=probe["en"].query_vectors[:, :8])
    with pytest.raises(ArtifactError, match="another model"):
        compare_search(encoder, {"en": narrow})


@pytest.fixture(scope="module")
def built(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of a name that says nothing, so that every language is asked.
    folder = Path(shutil.copytree(small_checkpoint(), tmp_path_factory.mktemp("search") / "model"))
    return build(folder, "onnx-fp32", tmp_path_factory.mktemp("search") / "dist").path


def test_an_artifact_carries_it(built: Path) -> None:
    manifest = open_artifact(built).manifest
    assert SEARCH_FILE in manifest.files
    assert [row["language"] for row in manifest.search][:3] == ["en", "zh", "ko"]
    assert len(manifest.search) == 13
    report = verify(built)
    assert list(msgspec.to_builtins(report.search)) == manifest.search
    assert "What it costs at search" not in (built / "README.md").read_text("utf-8")
    card = model_card(msgspec.structs.replace(manifest, precision="8bit"), "")
    assert "## What it costs at search" in card
    assert card.count("| ko | ") == 1


def test_verify_repeats_it_and_sees_what_is_worse(built: Path, tmp_path: Path) -> None:
    """The stored answers are made those of a perfect reference, which a random model is far from."""
    import shutil

    from ringkas.artifact import seal

    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    probe = load_search_probe(copy)
    assert probe is not None
    width = probe["ko"].query_vectors.shape[1]
    perfect = np.eye(20, width, dtype=np.float32)
    better = Asked(probe["ko"].questions, perfect, np.repeat(perfect, 2, axis=0))
    save_search_probe({**probe, "ko": better}, copy)
    report = verify(seal(copy, open_artifact(built).manifest))
    assert not report.passed
    assert [line[:3] for line in report.failures] == ["ko:"]


def test_a_damaged_file_is_an_error_and_a_missing_one_is_older(built: Path, tmp_path: Path) -> None:
    assert load_search_probe(tmp_path) is None
    (tmp_path / "parity").mkdir()
    data = (built / SEARCH_FILE).read_bytes()
    (tmp_path / SEARCH_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match="holds no reference vectors"):
        load_search_probe(tmp_path)
