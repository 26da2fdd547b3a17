"""`ringkas embed`: texts in, vectors out; from one line to a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringkas.commands.options import PLACE, threads_option, variant_option, with_options
from ringkas.errors import TargetError, TextError
from ringkas.progress import Progress

if TYPE_CHECKING:
    from ringkas.artifact import Artifact
    from ringkas.runtimes.bulk.embedding import Job
    from ringkas.runtimes.bulk.shards import Totals
    from ringkas.runtimes.bulk.sources import Source
    from ringkas.runtimes.bulk.writers import Kind, Layout

_FORMATS = ("lines", "jsonl", "csv", "tsv", "parquet")

_input_options = (
    click.option(
        "--input", "sources", multiple=True, metavar="FILE",
        help="Plain lines, .jsonl, .csv, .tsv or .parquet, also .gz and .zst; a folder, or a quoted pattern; "
        "may be repeated.  [default: lines on stdin]",
    ),
    click.option("--input-format", type=click.Choice(_FORMATS), help="[default: by each file's ending]"),
    click.option("--text-column", default="text", show_default=True, metavar="NAME", help="Holds the texts."),
    click.option("--id-column", metavar="NAME", help="Carried along with the vectors."),
    click.option("--columns", metavar="NAME,NAME", default="", help="More columns to carry along."),
    click.option(
        "--max-bytes", default=64 << 20, type=click.IntRange(min=1),
        help="A longer text is bad.  [default: 64 MiB]",
    ),
    click.option(
        "--on-error", type=click.Choice(("raise", "skip")), default="raise", show_default=True,
        help="At a bad row: end, or go on and write it with its reason to a file beside the vectors.",
    ),
    click.option(
        "--long-texts", type=click.Choice(("truncate", "window", "error")), default="truncate",
        show_default=True,
        help="Over the model's limit: cut and count them, encode overlapping windows and take their mean "
        "weighted by tokens, or end.",
    ),
)  # fmt: skip
_output_options = (
    click.option(
        "--output", type=PLACE,
        help="A folder of shards, which a killed run goes on with; or one .parquet, .npy or .jsonl file.  "
        "[default: JSON lines on stdout]",
    ),
    click.option(
        "--format", "kind", type=click.Choice(("parquet", "npy", "jsonl")),
        help="Of shards.  [default: parquet]",
    ),
    click.option("--shard-rows", type=click.IntRange(min=1), help="Rows of a shard.  [default: 50000]"),
    click.option("--overwrite", is_flag=True, help="Start a folder again, whatever run is in it."),
    click.option(
        "--precision", type=click.Choice(("float32", "float16", "int8", "ubinary")), default="float32",
        show_default=True, help="Of the vectors; int8 has a scale beside each.",
    ),
    click.option(
        "--dimensions", type=int, help="Keep only the first so many (Matryoshka), normalised again."
    ),
)  # fmt: skip
_ray_options = (
    click.option(
        "--ray", "address", metavar="ADDRESS",
        help="Hand the shards to a Ray cluster: its address, auto for the one here, local to start one. "
        "Parquet in and out, in folders that every machine shares.",
    ),
    click.option("--ray-workers", type=click.IntRange(min=1), help="[default: as many as the cores allow]"),
    click.option("--ray-gpus", type=click.FloatRange(min=0), help="Of each worker.  [default: 0]"),
)  # fmt: skip


@click.command()
@click.argument("artifact", type=PLACE)
@variant_option
@click.option("--prompt", metavar="NAME", help="A prompt of the checkpoint, such as query; '' for none.")
@with_options(_input_options)
@with_options(_output_options)
@with_options(_ray_options)
@click.option("--allow-failed", is_flag=True, help="Use an artifact whose parity fell short.")
@threads_option
def embed(artifact: Path, sources: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Encode texts with ARTIFACT, in order: line n of the input is vector n of the output.

    Into a folder, vectors are written in shards. A run that was killed goes on where it stopped when the
    same command is given again, and its vectors are the same to the bit.
    """
    from ringkas.artifact import open_artifact
    from ringkas.commands.embedding_progress import show_embedding
    from ringkas.files import require_folder_of
    from ringkas.runtimes.bulk.embedding import Run, embed_file, embed_folder, layout_of, run_identity
    from ringkas.runtimes.bulk.writers import kind_by_ending
    from ringkas.runtimes.encoder import load
    from ringkas.runtimes.vectors import check_dimensions

    ending = kind_by_ending(output) if output is not None else "jsonl"
    if output is not None and output.is_dir():
        ending = None  # whatever its name ends in
    _check(output, ending, options)
    if output is not None and ending is not None:
        require_folder_of(output)
    opened = open_artifact(artifact, options["variant"])
    source, job = _source(sources, options), _job(options)
    kind: Kind = ending or options["kind"] or "parquet"
    if job.dimensions is not None:
        check_dimensions(job.dimensions, opened.manifest.encoding.dimension)
    layout = layout_of(opened, source, job, kind)
    if options["address"]:
        with show_embedding() as watch:
            totals = _embed_on_ray(opened, source, job, layout, output, options | {"watch": watch})
        _report(totals, layout.dimension, output, job)
        return
    with (
        load(opened, threads=options["threads"], allow_failed=options["allow_failed"]) as encoder,
        show_embedding() as watch,
    ):
        encoder.prompt_of(job.prompt)
        run = Run(encoder, job, layout, watch)
        if ending or output is None:
            totals = embed_file(run, source, output)
        else:
            identity = run_identity(opened, source, job, kind)
            totals = embed_folder(run, source, output, identity, overwrite=options["overwrite"])
    _report(totals, layout.dimension, output, job)


def _source(patterns: tuple[str, ...], options: dict[str, Any]) -> Source:
    from ringkas.runtimes.bulk.sources import Columns, Source, find_files

    names = [options["id_column"], *options["columns"].split(",")]
    carried = tuple(dict.fromkeys(name.strip() for name in names if name and name.strip()))
    columns = Columns(options["text_column"], carried)
    return Source(find_files(patterns), options["input_format"], columns, options["max_bytes"])


def _job(options: dict[str, Any]) -> Job:
    from ringkas.runtimes.bulk.embedding import SHARD_ROWS, Job

    return Job(
        prompt=options["prompt"],
        dimensions=options["dimensions"],
        precision=options["precision"],
        long_texts=options["long_texts"],
        on_error=options["on_error"],
        shard_rows=options["shard_rows"] or SHARD_ROWS,
    )


def _check(output: Path | None, ending: Kind | None, options: dict[str, Any]) -> None:
    """Refuses options that would change nothing."""
    if output is not None and ending is None and output.suffix and not output.is_dir():
        raise TextError(
            f"{output} ends in none of .parquet, .npy and .jsonl",
            fix="The ending says which to write; make a folder of that name first if it is to hold shards",
        )
    if ending is not None:
        named = {"--format": "kind", "--shard-rows": "shard_rows", "--overwrite": "overwrite"}
        for option, name in named.items():
            if options[name]:
                raise TargetError(f"{option} is for a folder of shards", fix="Name a folder with --output")
    for option, name in {"--ray-workers": "ray_workers", "--ray-gpus": "ray_gpus"}.items():
        if options[name] and not options["address"]:
            raise TargetError(f"{option} goes with --ray", fix="Name a cluster with --ray, or leave it out")
    if output is None and options["on_error"] == "skip":
        raise TargetError(
            "--on-error skip writes the reasons to a file beside the vectors", fix="Name a file with --output"
        )


def _embed_on_ray(
    artifact: Artifact, source: Source, job: Job, layout: Layout, output: Path | None, options: dict[str, Any]
) -> Totals:
    from ringkas.runtimes.bulk.embedding import run_identity
    from ringkas.runtimes.bulk.on_ray import Cluster, RayRun, embed_on_ray

    if output is None or layout.kind != "parquet" or (output.suffix and not output.is_dir()):
        raise TargetError("Ray writes folders of Parquet shards", fix="Name a folder with --output")
    cluster = Cluster(
        address=options["address"],
        workers=options["ray_workers"],
        cores=options["threads"] or 1,
        gpus=options["ray_gpus"] or 0.0,
        allow_failed=options["allow_failed"],
    )
    run = RayRun(artifact, source, job, layout, output, cluster)
    identity = run_identity(artifact, source, job, "parquet")
    return embed_on_ray(run, identity, overwrite=options["overwrite"], watch=options["watch"])


def _report(totals: Totals, dimension: int, output: Path | None, job: Job) -> None:
    place = f" in {output}" if output else ""
    said = [f"{totals.vectors} vectors of {dimension} dimensions{place}"]
    if totals.long:
        done = "encoded in windows" if job.long_texts == "window" else "truncated"
        said.append(f"{totals.long} texts over the limit were {done}")
    if totals.skipped:
        said.append(f"{totals.skipped} rows were skipped, each with its reason in a file beside the vectors")
    Progress().say("; ".join(said))
