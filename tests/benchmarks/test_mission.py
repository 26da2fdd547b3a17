"""The tables of the mission's model: their scores are trec_eval's, and they see what is worse."""

from __future__ import annotations

import mission
import numpy as np
import pytest

from ringkas.runtimes.evaluate.metrics import score_ranking

RANDOM = np.random.default_rng(7)


def unit(count: int = 40, width: int = 8) -> mission.Vectors:
    vectors = RANDOM.standard_normal((count, width)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_translation_scores_are_those_of_trec_eval() -> None:
    queries, documents = unit(), unit()
    found = mission.translation_ndcg(queries, documents)
    for row, query in enumerate(queries):
        ranking = [str(place) for place in np.argsort(-(documents @ query))]
        assert found[row] == pytest.approx(score_ranking(ranking, {str(row): 1}).ndcg_at_10)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(mission.translation_ndcg(queries, queries), 1)


def test_equal_documents_are_no_find() -> None:
    """An engine that gives every text the same vector must not score."""
    same = np.tile(unit(1), (40, 1))
    np.testing.assert_array_equal(mission.translation_ndcg(same, same), 0)


def test_topic_scores_are_those_of_trec_eval() -> None:
    vectors, topics = unit(), np.array([f"topic {row % 3 if row > 3 else 9}" for row in range(40)])
    found = mission.topic_ndcg(vectors, topics)
    for row, query in enumerate(vectors):
        ranking = [str(place) for place in np.argsort(-(vectors @ query)) if place != row]
        judged = {str(place): 1 for place in range(40) if place != row and topics[place] == topics[row]}
        assert found[row] == pytest.approx(score_ranking(ranking, judged).ndcg_at_10)


def test_the_interval_of_what_is_kept() -> None:
    base = RANDOM.uniform(0.2, 1, 500)
    kept, low, high = mission.ratio_interval(base, base)
    assert (kept, low, high) == (1, 1, 1)
    kept, low, high = mission.ratio_interval(base, base * 0.9)
    assert low == pytest.approx(0.9)
    noisy = base * RANDOM.choice([0.8, 1.2], 500)
    kept, low, high = mission.ratio_interval(base, noisy)
    assert low < kept < high
    assert high - low > 0.01


def test_shuffled_vectors_are_seen() -> None:
    vectors = {"en": unit(), "ko": unit()}
    vectors["ko"] = vectors["en"] + 0.05 * vectors["ko"]
    topics = np.array([str(row % 4) for row in range(40)])
    whole = mission.search(vectors, topics)["en"]
    damaged = mission.search({"en": vectors["en"], "ko": np.roll(vectors["ko"], 1, axis=0)}, topics)["en"]
    row = mission.compare(whole, damaged)
    assert row["kept"] < 0.9
    assert row["kept_95"][1] < 1
    assert row["sentences"] == 40


def test_four_bits_are_marked() -> None:
    names = {name.partition("/")[2] for name in mission.SEARCHED + mission.TIMED}
    names |= {target for one in mission.VOCABULARIES for target in one.targets}
    marked = {name for name in names if mission._marked(name) != name}
    assert marked == {"onnx-int4", "gguf-q4_k_m"}


def test_every_part_is_a_function_of_the_options() -> None:
    assert list(mission.PARTS) == ["build", "parity", "retrieval", "load", "speed"]
    searched = {f"{one.name}/{target}" for one in mission.VOCABULARIES for target in one.targets}
    assert searched.issuperset(mission.SEARCHED + mission.TIMED)
