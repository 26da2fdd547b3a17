"""Retrieval with real sentences: what each target is worth at search, beside the reference.

    python benchmarks/retrieval_sib200.py SIB200 [--json benchmarks/results/retrieval_sib200.json]
    python benchmarks/retrieval_sib200.py SIB200 --write FOLDER     # only the BEIR folders

SIB200 holds one file a language of the same 1,004 sentences, and `topics.txt`. Two kinds of set come of it:
a sentence's translation is the one document to find among all sentences of the other language; and, within a
language, the sentences of the same topic are. The demo checkpoint knows English alone, so its topics are the
fair test and the translations the hard one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from results_file import write_result

from ringkas import build_all, load, load_reference_encoder, open_checkpoint
from ringkas.machine import tool_versions
from ringkas.runtimes.evaluate.data import read_beir
from ringkas.runtimes.evaluate.evaluate import retrieval_scores
from ringkas.runtimes.evaluate.metrics import Floats, mean_interval, mean_scores

TARGETS = ("onnx-fp32", "onnx-int8", "onnx-int4", "gguf-q8_0")
TRANSLATIONS = (("en", "id"), ("en", "ms"))
TOPICS = ("en",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sib200", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="only write the BEIR folders")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.write:
        print("\n".join(map(str, write_sets(options.sib200, options.write))))
        return
    with tempfile.TemporaryDirectory() as name:
        folders = write_sets(options.sib200, Path(name))
        report = compare(options.model, options.targets, folders, Path(name))
    print_table(report)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_result(options.json, report)


def write_sets(sib200: Path, out: Path) -> list[Path]:
    """Every set, as a BEIR folder in `out`."""
    lines = {
        name: (sib200 / f"{name}.txt").read_text("utf-8").splitlines()
        for name in {"topics", *TOPICS, *(name for pair in TRANSLATIONS for name in pair)}
    }
    translations = [
        write_translations(out / f"translation-{source}-{goal}", lines[source], lines[goal])
        for source, goal in TRANSLATIONS
    ]
    topics = [write_topics(out / f"topic-{name}", lines[name], lines["topics"]) for name in TOPICS]
    return topics + translations


def write_translations(folder: Path, sentences: Sequence[str], translations: Sequence[str]) -> Path:
    """Each sentence is a query whose one relevant document is its translation."""
    documents = [{"_id": f"d{row}", "title": "", "text": text} for row, text in enumerate(translations)]
    queries = [{"_id": f"q{row}", "text": text} for row, text in enumerate(sentences)]
    return _write(folder, documents, queries, [(f"q{row}", f"d{row}") for row in range(len(sentences))])


def write_topics(folder: Path, sentences: Sequence[str], topics: Sequence[str]) -> Path:
    """Each sentence is a document and a query; relevant are the others of its topic."""
    documents = [{"_id": str(row), "title": "", "text": text} for row, text in enumerate(sentences)]
    queries = [{"_id": one["_id"], "text": one["text"]} for one in documents]
    relevant = [
        (str(row), str(other))
        for row, topic in enumerate(topics)
        for other, its_topic in enumerate(topics)
        if row != other and topic == its_topic
    ]
    return _write(folder, documents, queries, relevant)


def write_pairs(file: Path, sentences: Sequence[str]) -> Path:
    """Each sentence and its beginning: the larger the part that is left, the more alike they are."""
    rows = ["text1\ttext2\tscore\n"]
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        left = 1 + number % len(words)
        rows.append(f"{sentence}\t{' '.join(words[:left])}\t{left / len(words)}\n")
    file.write_text("".join(rows), encoding="utf-8")
    return file


def compare(model: str, targets: Sequence[str], folders: Sequence[Path], work: Path) -> dict[str, Any]:
    """Each target's scores on each set, the reference's, and their difference with its 95% interval."""
    sets = {folder.name: read_beir(folder) for folder in folders}

    def score(encoder: Any) -> dict[str, Floats]:
        return {name: retrieval_scores(encoder, material) for name, material in sets.items()}

    with load_reference_encoder(model) as encoder:
        reference = score(encoder)
    found: dict[str, Any] = {name: {"reference": _scores(scores)} for name, scores in reference.items()}
    for built in build_all(open_checkpoint(model), targets, work / "dist"):
        target = built.artifact.manifest.target
        print(f"{target}: cosine min {built.report.cosine_min:.5f}", file=sys.stderr)
        with load(built.artifact, allow_failed=True) as encoder:
            for name, scores in score(encoder).items():
                difference = scores - reference[name]
                low, high = mean_interval(difference)
                found[name][target] = _scores(scores) | {
                    "difference": _scores(difference),
                    "difference_95": [_rounded(low), _rounded(high)],
                }
    sizes = {
        name: {"queries": len(one.queries), "documents": len(one.document_ids)} for name, one in sets.items()
    }
    return {"model": model, "sets": sizes, "scores": found, "tools": tool_versions()}


def print_table(report: dict[str, Any]) -> None:
    print("| set | | nDCG@10 | less the reference's | MRR@10 | recall@100 |\n|---|---|---|---|---|---|")
    for name, rows in report["scores"].items():
        for target, row in rows.items():
            change = ""
            if "difference" in row:
                low, high = (end["ndcg_at_10"] for end in row["difference_95"])
                change = f"{row['difference']['ndcg_at_10']:+.4f} ({low:+.4f} to {high:+.4f})"
            scores = [f"{row[key]:.4f}" for key in ("ndcg_at_10", "mrr_at_10", "recall_at_100")]
            print(f"| {name} | {target} | {scores[0]} | {change} | {scores[1]} | {scores[2]} |")


def _scores(per_query: Floats) -> dict[str, float]:
    return _rounded(mean_scores(per_query))


def _rounded(scores: Any) -> dict[str, float]:
    return {name: round(value, 5) for name, value in msgspec.structs.asdict(scores).items()}


def _write(
    folder: Path,
    documents: Sequence[dict[str, str]],
    queries: Sequence[dict[str, str]],
    relevant: Sequence[tuple[str, str]],
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore\n", *(f"{query}\t{document}\t1\n" for query, document in relevant)]
    (folder / "qrels" / "test.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
