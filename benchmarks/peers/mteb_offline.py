"""The `mteb` package evaluates an artifact, offline, and finds the scores that `ringkas evaluate` finds.

    python benchmarks/peers/mteb_offline.py SIB200 [--lines N] [--json benchmarks/results/mteb_offline.json]

The sets are those of benchmarks/retrieval_sib200.py, as tasks of mteb's made from data in memory. mteb gets
an environment of its own (environments.py), with this project's source and what a device needs, no more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]
# mteb gives five digits.
_SAME = 2e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sib200", type=Path)
    parser.add_argument("--lines", type=int, default=1004, help="of the sentences, take the first so many")
    parser.add_argument("--target", default="onnx-int8")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from environments import ENVIRONMENTS, interpreter

    python = interpreter("mteb")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = evaluate_ours(options, folder)
        command = [str(python), __file__, "--inside", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY / "src"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    theirs = json.loads(done.stdout.splitlines()[-1])
    report = {
        "target": options.target,
        "sentences": options.lines,
        "requirements": ENVIRONMENTS["mteb"].requirements,
        "ringkas evaluate": ours,
        "mteb": theirs,
    }
    print(json.dumps(report, indent=1))
    if options.json:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from results_file import write_result

        write_result(options.json, report)
    apart = [
        f"{task} {score}"
        for task, scores in ours.items()
        for score, value in scores.items()
        if not abs(theirs[task][score] - value) <= _SAME
    ]
    if apart:
        sys.exit("mteb finds other values: " + ", ".join(apart))


def evaluate_ours(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Writes the artifact and the sets into `folder`; what `ringkas evaluate` finds."""
    import msgspec

    sys.path.insert(0, str(_REPOSITORY / "benchmarks"))
    from retrieval_sib200 import write_pairs, write_topics, write_translations

    from ringkas import build
    from ringkas.runtimes.evaluate.evaluate import evaluate, read_material

    english, malay, topics = (
        (options.sib200 / f"{name}.txt").read_text("utf-8").splitlines()[: options.lines]
        for name in ("en", "ms", "topics")
    )
    write_topics(folder / "topic", english, topics)
    write_translations(folder / "translation", english, malay)
    write_pairs(folder / "pairs.tsv", english)
    artifact = build("demo", options.target, folder / "dist").path
    artifact.rename(folder / "artifact")
    found: dict[str, dict[str, float]] = {}
    for name in ("topic", "translation"):
        report = evaluate(folder / "artifact", read_material(folder / name, "test", None))
        assert report.retrieval is not None
        found[name] = msgspec.structs.asdict(report.retrieval.artifact)
    pairs = evaluate(folder / "artifact", read_material(None, "test", folder / "pairs.tsv")).similarity
    assert pairs is not None
    return found | {"pairs": {"cosine_spearman": pairs.artifact}}


# Below runs in the environment of mteb.


def evaluate_theirs(folder: Path) -> dict[str, dict[str, float]]:
    """What `mteb.evaluate` finds on the sets and the artifact in `folder`."""
    import mteb

    from ringkas.runtimes.evaluate.mteb_adapter import MtebEncoder

    tasks = [make_retrieval("topic", folder), make_retrieval("translation", folder), make_pairs(folder)]
    results = mteb.evaluate(MtebEncoder(folder / "artifact"), tasks, cache=None, show_progress_bar=False)
    wanted = ("ndcg_at_10", "mrr_at_10", "recall_at_100", "cosine_spearman")
    found = {}
    for result in results.task_results:
        (scores,) = result.scores["test"]
        found[result.task_name] = {name: scores[name] for name in wanted if name in scores}
    return found


def make_retrieval(name: str, folder: Path) -> Any:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from ringkas.runtimes.evaluate.data import read_beir

    material = read_beir(folder / name)
    rows = zip(material.document_ids, material.documents(), strict=True)
    split = {
        "corpus": Dataset.from_list([{"id": key, "text": text, "title": ""} for key, text in rows]),
        "queries": Dataset.from_list([{"id": key, "text": text} for key, text in material.queries.items()]),
        "relevant_docs": material.judgements,
        "top_ranked": None,
    }

    class Task(AbsTaskRetrieval):
        metadata = describe(name, "Retrieval", "ndcg_at_10")
        # BEIR's rule, which mteb leaves to the task.
        ignore_identical_ids = True

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Task()


def make_pairs(folder: Path) -> Any:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS

    from ringkas.runtimes.evaluate.data import read_pairs

    pairs = read_pairs(folder / "pairs.tsv")
    columns = {"sentence1": pairs.first, "sentence2": pairs.second, "score": pairs.scores}

    class Task(AbsTaskSTS):
        metadata = describe("pairs", "STS", "cosine_spearman")
        min_score, max_score = 0, 1

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = DatasetDict({"test": Dataset.from_dict({k: list(v) for k, v in columns.items()})})
            self.data_loaded = True

    return Task()


def describe(name: str, kind: str, main_score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="made of SIB-200, in memory",
        type=kind,
        main_score=main_score,
        dataset={"path": "memory", "revision": "1"},
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        reference=None,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(evaluate_theirs(Path(sys.argv[2]))))
    else:
        main()
