"""`ringkas evaluate`: what an artifact is worth at its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import PLACE, json_option, print_json, threads_option, variant_option
from ringkas.machine import share_cores
from ringkas.progress import Progress


@click.command()
@click.argument("artifact", type=PLACE)
@variant_option
@click.option(
    "--beir",
    type=PLACE,
    metavar="FOLDER",
    help="A retrieval set: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
)
@click.option("--split", default="test", show_default=True, help="Which judgements of the retrieval set.")
@click.option(
    "--sts",
    type=PLACE,
    metavar="FILE",
    help="Sentence pairs: text1, text2 and a score, parted by tabs.",
)
@click.option("--reference", metavar="MODEL", help="Evaluate this model in PyTorch too, and compare.")
@threads_option
@json_option
def evaluate(
    artifact: Path,
    beir: Path | None,
    split: str,
    sts: Path | None,
    reference: str | None,
    **options: Any,
) -> None:
    """Measure ARTIFACT at retrieval (nDCG@10, MRR@10, recall@100) and at similarity (Spearman).

    Queries and documents get the checkpoint's prompts. The search is exact, and the scores are trec_eval's.
    With --reference its scores stand beside, and their difference with its 95% interval.
    """
    share_cores()

    from ringkas.artifact import open_artifact
    from ringkas.commands.printing import print_evaluation
    from ringkas.runtimes.evaluate.evaluate import evaluate as run
    from ringkas.runtimes.evaluate.evaluate import read_material

    material = read_material(beir, split, sts)
    opened = open_artifact(artifact, options["variant"])
    report = run(opened, material, reference=reference, threads=options["threads"], progress=Progress())
    if options["as_json"]:
        print_json(report)
    else:
        print_evaluation(report)
