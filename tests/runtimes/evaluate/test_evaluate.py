"""Retrieval and similarity: scores equal trec_eval's and SciPy's, and a broken engine cannot keep them."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ringkas import load, texts
from ringkas.cli import cli
from ringkas.errors import ArtifactError, TextError
from ringkas.runtimes.evaluate.data import PairSet, RetrievalSet, read_beir, read_pairs
from ringkas.runtimes.evaluate.evaluate import (
    Material,
    _checked,
    evaluate,
    pair_score,
    retrieval_scores,
)
from ringkas.runtimes.evaluate.exact_search import SCORES, pairwise, search
from ringkas.runtimes.evaluate.metrics import (
    RetrievalScores,
    mean_interval,
    mean_scores,
    score_ranking,
)
from ringkas.spec import SIMILARITIES, EncodingSpec

SENTENCES = 120


def write_set(folder: Path, **changed: str | None) -> Path:
    """A BEIR folder of three documents and two queries; `changed` replaces a file, or leaves it out."""
    files = {
        "corpus": '{"_id": "d1", "title": "A", "text": "cat"}\n'
        '{"_id": 2, "text": "dog"}\n{"_id": "q1", "title": null, "text": ""}\n',
        "queries": '{"_id": "q1", "text": "which animal"}\n{"_id": "q2", "text": "unused"}\n',
        "qrels": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t2\t0\n",
    } | changed
    places = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/test.tsv"}
    (folder / "qrels").mkdir(parents=True)
    for name, content in files.items():
        if content is not None:
            (folder / places[name]).write_text(content, "utf-8")
    return folder


# The material


def test_beir_folder_is_read_as_beir_means_it(tmp_path: Path) -> None:
    found = read_beir(write_set(tmp_path / "set"))
    assert found.document_ids == ("d1", "2", "q1")
    assert list(found.documents()) == ["A cat", "dog", ""]
    assert found.queries == {"q1": "which animal"}
    assert found.judgements == {"q1": {"d1": 2, "2": 0}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"corpus": None}, "cannot read"),
        ({"queries": None}, "cannot read"),
        ({"qrels": None}, "cannot read"),
        ({"corpus": ""}, "no document"),
        ({"corpus": '{"_id": "d1", "text": "cat"}\n{"_id": "d2", "te'}, "line 2"),
        ({"corpus": '["d1", "cat"]\n'}, "line 1"),
        ({"corpus": '{"_id": "d1"}\n'}, "line 1"),
        ({"corpus": '{"_id": "d1", "text": "\\ud800"}\n'}, "lone surrogate"),
        ({"corpus": '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "b"}\n'}, "'d1' twice"),
        ({"queries": '{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}\n'}, "'q1' twice"),
        ({"queries": '{"_id": "q1", "text": 7}\n'}, "line 1"),
        ({"queries": '{"_id": true, "text": "a"}\n'}, "line 1"),
        ({"qrels": ""}, "names of its columns"),
        ({"qrels": "q1\td1\t1\n"}, "names of its columns"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "no document relevant"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, "no document relevant"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\n"}, "line 2"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0.5\n"}, "line 2"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\tnan\n"}, "line 2"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq9\td1\t1\n"}, "'q9'"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td9\t1\n"}, "'d9'"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td1\t1\n"}, "again"),
    ],
)
def test_broken_folder_is_one_error(tmp_path: Path, changed: dict[str, str | None], said: str) -> None:
    with pytest.raises(TextError, match=said):
        read_beir(write_set(tmp_path / "set", **changed))


def test_bytes_that_are_not_utf8_are_one_error(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    (folder / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "caf\xe9"}\n')
    with pytest.raises(TextError, match="not UTF-8: line 1"):
        read_beir(folder)


@pytest.mark.parametrize("header", ["", "text1\ttext2\tscore\n"])
def test_pairs_are_read(tmp_path: Path, header: str) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(f"{header}a\tb\t1\nc\t\t2.5\n\nd\te\t-1\n", "utf-8")
    found = read_pairs(file)
    assert (found.first, found.second, found.scores) == (("a", "c", "d"), ("b", "", "e"), (1, 2.5, -1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be ranked"),
        ("a\tb\t1\nc\td\t2\n", "cannot be ranked"),
        ("a\tb\t1\nc\td\t1\ne\tf\t1\n", "cannot be ranked"),
        ("a\tb\t1\nc\td\n", "line 2"),
        ("a\tb\t1\nc\td\tmuch\n", "line 2"),
        ("a\tb\tinf\n", "line 1"),
        ("a\tb\tc\t1\n", "line 1"),
    ],
)
def test_broken_pairs_are_one_error(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "pairs.tsv").write_text(content, "utf-8")
    with pytest.raises(TextError, match=said):
        read_pairs(tmp_path / "pairs.tsv")


# The scores


def test_scores_worked_by_hand() -> None:
    found = score_ranking(["x", "b", "y", "a"], {"a": 1, "b": 2, "c": 1, "x": 0})
    gain = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found == RetrievalScores(pytest.approx(gain / ideal), 0.5, pytest.approx(2 / 3))


def make_case(seed: int) -> tuple[RetrievalSet, np.ndarray, np.ndarray]:
    """Coarse vectors, so that many scores tie; levels from -1 to 3; ids whose order is not their rows'."""
    rng = np.random.default_rng(seed)
    documents, queries = (rng.integers(-1, 2, (count, 4)).astype(np.float32) for count in (260, 20))
    ids = tuple(str(key) for key in rng.permutation(260))
    judgements = {
        f"q{query}" if query % 2 else str(query): {
            str(key): int(level)
            for key, level in zip(rng.permutation(260)[:12], rng.integers(-1, 4, 12), strict=True)
        }
        for query in range(20)
    }
    judgements["q1"] = dict.fromkeys(judgements["q1"], 0)  # nothing is relevant to it
    return RetrievalSet(Path("none"), ids, dict.fromkeys(judgements, ""), judgements), queries, documents


class Given:
    """An engine that returns vectors made before."""

    spec = EncodingSpec(family="none", max_length=8, dimension=4)

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.queries, self.documents = queries, documents

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return self.queries

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        return self.documents


@pytest.mark.parametrize("seed", range(5))
def test_ranking_and_scores_are_those_of_trec_eval(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="needs pytrec-eval-terrier, of the extra [dev]")
    material, queries, documents = make_case(seed)
    monkeypatch.setattr(RetrievalSet, "documents", lambda self: iter([""] * len(self.document_ids)))
    found = retrieval_scores(Given(queries, documents), material)  # type: ignore[arg-type]

    unit = [
        one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (queries, documents)
    ]
    products = (unit[0].astype(np.float64) @ unit[1].astype(np.float64).T).astype(np.float32)
    run = {
        query: {
            key: float(score)
            for key, score in zip(material.document_ids, row, strict=True)
            if key != query or key in material.judgements[query]
        }
        for query, row in zip(material.judgements, products, strict=True)
    }
    judge = pytrec_eval.RelevanceEvaluator(material.judgements, {"ndcg_cut.10", "recip_rank", "recall.100"})
    expected = judge.evaluate(run)
    for query, scores in zip(material.judgements, found, strict=True):
        reciprocal = expected[query]["recip_rank"]
        cut = reciprocal if reciprocal >= 1 / 10 else 0.0  # trec_eval has no cut for this one
        assert scores == pytest.approx(
            [expected[query]["ndcg_cut_10"], cut, expected[query]["recall_100"]], abs=1e-9
        )


@pytest.mark.parametrize("block", [1, 7, 100, 260])
def test_blocks_change_nothing(block: int) -> None:
    material, queries, documents = make_case(9)
    ids, hidden = material.document_ids, [None] * len(queries)
    blocks = (documents[start : start + block] for start in range(0, len(documents), block))
    found = search(queries, blocks, ids, 100, hidden)
    scores = queries.astype(np.float64) @ documents.T
    # Stable sorts: by id downwards, then by score.
    expected = [
        [
            ids[row]
            for row in sorted(sorted(range(260), key=lambda r: ids[r], reverse=True), key=lambda r: -one[r])
        ]
        for one in scores
    ]
    assert found == [ranking[:100] for ranking in expected]


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_is_the_checkpoint_s_own(name: str) -> None:
    """As sentence-transformers computes it under that name."""
    util = pytest.importorskip("sentence_transformers.util")
    random = np.random.default_rng(4)
    lengths = np.geomspace(0.5, 2, 40, dtype=np.float32)[:, None]  # so that the four rank apart
    first, second = (random.standard_normal((40, 8)).astype(np.float32) * lengths for _ in range(2))
    function = util.SimilarityFunction
    expected = np.asarray(function.to_similarity_fn(name)(first, second))
    queries, documents = (_checked(one, name) for one in (first, second))
    np.testing.assert_allclose(SCORES[name](queries, documents), expected, atol=1e-5)
    np.testing.assert_allclose(pairwise(queries, documents, name), np.diag(expected), atol=1e-5)
    ids = [f"{row:02}" for row in range(40)]
    found = search(queries, [documents[:7], documents[7:]], ids, 5, [None] * 40, name)
    assert found == [[ids[row] for row in np.argsort(-one)[:5]] for one in expected]


def test_documents_and_vectors_must_match_in_number() -> None:
    with pytest.raises(ValueError, match="2 vectors for 3 documents"):
        search(np.ones((1, 2), np.float32), [np.ones((2, 2), np.float32)], ["a", "b", "c"], 10, [None])


def test_a_document_is_left_out_for_its_own_query_only() -> None:
    vectors = np.eye(3, dtype=np.float32)
    found = search(vectors, [vectors], ["a", "b", "c"], 10, ["a", None, "absent"])
    assert [len(ranking) for ranking in found] == [2, 3, 3]
    assert "a" not in found[0]
    assert found[1][0] == "b"


def test_interval_holds_the_mean_and_narrows_with_the_queries() -> None:
    scores = np.random.default_rng(4).normal(0.1, 1, (4000, 3))
    widths = []
    for count in (100, 4000):
        low, high = mean_interval(scores[:count])
        mean = mean_scores(scores[:count])
        assert low.ndcg_at_10 < mean.ndcg_at_10 < high.ndcg_at_10
        # Twice 1.96 standard errors, as the central limit theorem has it.
        widths.append(high.ndcg_at_10 - low.ndcg_at_10)
        assert widths[-1] == pytest.approx(3.92 * scores[:count, 0].std() / math.sqrt(count), rel=0.15)
    assert widths[1] < widths[0] / 4


# With an engine


@pytest.fixture(scope="module")
def retrieval_script() -> Any:
    """benchmarks/retrieval_sib200.py, which makes the sets."""
    file = Path(__file__).parents[3] / "benchmarks" / "retrieval_sib200.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sets(sib200: Callable[[str], list[str]], tmp_path_factory: Any, retrieval_script: Any) -> dict[str, Path]:
    """A sentence finds those of its topic; and its translation."""
    out = tmp_path_factory.mktemp("sets")
    english, malay, topics = (sib200(name)[:SENTENCES] for name in ("en", "ms", "topics"))
    return {
        "topic": retrieval_script.write_topics(out / "topic", english, topics),
        "translation": retrieval_script.write_translations(out / "translation", english, malay),
    }


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, retrieval_script: Any) -> Path:
    """Sentences and their beginnings."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    found: Path = retrieval_script.write_pairs(file, texts.probe(["en"])["en"])
    return found


class Constant:
    """The same vector whatever the text."""

    def __init__(self, encoder: Any) -> None:
        self.spec = encoder.spec

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        return np.ones((len(texts), 384), np.float32)

    encode_query = encode_document = encode


def test_real_sentences_are_found_and_broken_engines_find_none(
    demo_artifacts: Path, sets: dict[str, Path], pairs: Path
) -> None:
    topic, translation = (read_beir(sets[name]) for name in ("topic", "translation"))
    with load(demo_artifacts / "onnx-fp32") as encoder:
        by_topic = mean_scores(retrieval_scores(encoder, topic)).ndcg_at_10
        by_translation = mean_scores(retrieval_scores(encoder, translation))
        alike = pair_score(encoder, read_pairs(pairs))
        assert by_topic > 0.5
        assert by_translation.ndcg_at_10 > 0.25
        assert by_translation.recall_at_100 > by_translation.mrr_at_10 > 0.25
        assert alike > 0.7
        # Sabotage: ids that belong to other documents, and an engine that has stopped looking.
        ids = tuple(np.random.default_rng(5).permutation(translation.document_ids).tolist())
        shuffled = mean_scores(retrieval_scores(encoder, replace(translation, document_ids=ids)))
        constant: Any = Constant(encoder)
        stopped = mean_scores(retrieval_scores(constant, translation))
        assert max(shuffled.ndcg_at_10, stopped.ndcg_at_10) < 0.1
        assert mean_scores(retrieval_scores(constant, topic)).ndcg_at_10 < by_topic - 0.2
        assert pair_score(constant, read_pairs(pairs)) == 0.0


def test_reference_stands_beside(demo_artifacts: Path, sets: dict[str, Path], pairs: Path) -> None:
    report = evaluate(
        demo_artifacts / "onnx-fp16",
        Material(read_beir(sets["translation"]), read_pairs(pairs)),
        reference="demo",
    )
    retrieval, similarity = report.retrieval, report.similarity
    assert retrieval is not None
    assert similarity is not None
    assert retrieval.reference is not None
    assert retrieval.difference is not None
    assert retrieval.artifact.ndcg_at_10 == pytest.approx(
        retrieval.reference.ndcg_at_10 + retrieval.difference.ndcg_at_10
    )
    assert abs(retrieval.difference.ndcg_at_10) < 0.01
    assert similarity.difference == pytest.approx(similarity.artifact - (similarity.reference or 0))
    assert abs(similarity.difference) < 0.001
    assert (report.reference, report.parity, retrieval.queries) == ("demo", True, SENTENCES)


def test_queries_and_documents_get_their_prompts() -> None:
    seen: dict[str, Any] = {}

    class Recorder(Constant):
        def __init__(self) -> None:
            self.spec = EncodingSpec(
                family="none", max_length=8, dimension=384, prompts={"query": "query: ", "STS": "alike: "}
            )

        def encode(self, texts: Sequence[str], prompt: str | None = None) -> np.ndarray:
            seen["pair"] = prompt
            return super().encode(texts)

        def encode_query(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[override]
            seen["query"] = texts
            return super().encode(texts)

        def encode_document(self, texts: Sequence[str]) -> np.ndarray:  # type: ignore[override]
            seen["document"] = texts
            return super().encode(texts)

    material = RetrievalSet(Path(), ("d",), {"q": "a query"}, {"q": {"d": 1}})
    object.__setattr__(material, "documents", lambda: iter(["a document"]))
    recorder: Any = Recorder()
    assert retrieval_scores(recorder, material).tolist() == [[1.0, 1.0, 1.0]]
    pair_score(recorder, PairSet(Path(), ("a",) * 3, ("b",) * 3, (1, 2, 3)))
    assert seen == {"query": ["a query"], "document": ["a document"], "pair": "STS"}


def test_vectors_that_are_no_numbers_are_an_error() -> None:
    material, queries, documents = make_case(1)
    with pytest.raises(ArtifactError, match="no number"):
        retrieval_scores(Given(queries * np.nan, documents), material)  # type: ignore[arg-type]


# The command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], prog_name="ringkas")


def test_command_prints_one_document(demo_artifacts: Path, tmp_path: Path, pairs: Path) -> None:
    folder = write_set(tmp_path / "set")
    result = run(demo_artifacts / "onnx-fp32", "--beir", folder, "--sts", pairs, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["retrieval"]["left_out"] == 1
    assert document["retrieval"]["artifact"]["recall_at_100"] == 1.0
    assert document["similarity"]["artifact"] > 0.7
    assert document["reference"] is None
    assert document["retrieval"]["difference"] is None
    assert "nDCG@10" in run(demo_artifacts / "onnx-fp32", "--beir", folder).stdout


def test_bad_input_is_one_line_and_status_2(demo_artifacts: Path, tmp_path: Path) -> None:
    artifact = demo_artifacts / "onnx-fp32"
    broken = write_set(tmp_path / "broken", qrels="query-id\tcorpus-id\tscore\nq1\tabsent\t1\n")
    for arguments, said in [
        ((artifact,), "nothing to evaluate"),
        ((artifact, "--beir", tmp_path / "absent"), "there is no folder"),
        ((artifact, "--beir", broken), "'absent'"),
        ((artifact, "--beir", broken, "--split", "dev"), "cannot read"),
        ((artifact, "--sts", tmp_path / "absent.tsv"), "cannot read"),
        ((tmp_path / "absent", "--beir", write_set(tmp_path / "set")), "absent"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert said in result.stderr
