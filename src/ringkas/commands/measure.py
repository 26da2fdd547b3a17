"""`ringkas bench`: how fast, how small, how near."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import print_json, threads_option
from ringkas.errors import TextError
from ringkas.progress import Progress


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--reference", metavar="MODEL", help="Measure PyTorch on this model beside them.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@threads_option
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write the result here; - for stdout.",
)
def bench(
    artifacts: tuple[Path, ...],
    reference: str | None,
    rounds: int,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Measure ARTIFACTS side by side: latency of single texts, and throughput.

    Each runs in a process of its own, the rounds interleaved; medians with 95% intervals are in the JSON.
    """
    from ringkas.files import write_json
    from ringkas.runtimes.bench import bench as run
    from ringkas.runtimes.measure import Plan
    from ringkas.tables import print_bench

    if json_file is not None and str(json_file) != "-" and not json_file.parent.is_dir():
        raise TextError(f"there is no folder {json_file.parent} to write {json_file.name} into")
    result = run(artifacts, reference, Plan(rounds=rounds, threads=threads), Progress())
    if json_file is None:
        print_bench(result)
    elif str(json_file) == "-":
        print_json(result)
    else:
        write_json(json_file, result)
        print_bench(result)
