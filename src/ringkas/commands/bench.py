"""`ringkas bench`: how fast, how small, how near."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import PLACE, PlaceType, exit_by, print_json, threads_option
from ringkas.extras import require
from ringkas.progress import Progress


@click.command()
@click.argument("artifacts", nargs=-1, type=PLACE)
@click.option("--reference", metavar="MODEL", help="Measure PyTorch on this model beside them.")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice(("single-stream", "offline", "server")),
    help="May be repeated.  [default: single-stream and offline]",
)
@click.option("--texts", type=PLACE, help="Your own texts, one a line, or a .jsonl.  [default: built in]")
@click.option("--language", help="Of the built-in texts.  [default: the first artifact's first, or en]")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--latency-bound", default=50.0, show_default=True, help="Server: most ms at the 99th percentile."
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Server: only this rate, in texts/s."
)
@click.option(
    "--url",
    "urls",
    multiple=True,
    help="Server: drive an OpenAI-like server, with no artifact; may be repeated.  [key: RINGKAS_API_KEY]",
)
@click.option("--model", help="The model to ask servers for.  [default: the first that each lists]")
@threads_option
@click.option("--html", type=PLACE, help="Write a page with plots here.")
@click.option("--markdown", type=PLACE, help="Write the tables here.")
@click.option(
    "--json",
    "json_file",
    type=PlaceType(allow_dash=True),
    help="Write the result here; - for stdout.",
)
@click.option("--compare", nargs=2, type=PLACE, metavar="BEFORE AFTER", help="Judge two results instead.")
def bench(artifacts: tuple[Path, ...], **options: Any) -> None:
    """Measure ARTIFACTS side by side: latency of single texts, throughput, a server's load, and parity.

    Each runs in a process of its own, the rounds interleaved. The first row (PyTorch with --reference) is
    what the others' times are compared with. --compare BEFORE.json AFTER.json judges two earlier results: the
    exit status is 1 when one of them is slower beyond what chance and the machine explain.
    """
    if options["compare"]:
        _compare(artifacts, options)
    elif options["urls"]:
        _drive(artifacts, options)
    elif artifacts:
        _measure(artifacts, options)
    else:
        raise click.UsageError("Name an artifact, a server with --url, or two results with --compare.")


def _measure(artifacts: tuple[Path, ...], options: dict[str, Any]) -> None:
    from ringkas.commands.printing import print_bench
    from ringkas.runtimes.measure.bench import Lineup
    from ringkas.runtimes.measure.bench import bench as run
    from ringkas.runtimes.measure.rounds import Procedure
    from ringkas.text_files import read_texts

    if options["html"]:  # before minutes are spent
        require("plot", "matplotlib")
    _check_places(options)
    texts = tuple(read_texts(options["texts"])) if options["texts"] else ()
    lineup = Lineup(artifacts, options["reference"], texts=texts, language=options["language"])
    plan = Procedure(
        rounds=options["rounds"],
        threads=options["threads"],
        scenarios=options["scenarios"] or Procedure.scenarios,
        latency_bound_ms=options["latency_bound"],
        rate=options["rate"],
    )
    result = run(lineup, plan, Progress())
    _give(result, options["json_file"], print_bench)
    _write_reports(result, options)


def _drive(artifacts: tuple[Path, ...], options: dict[str, Any]) -> None:
    from ringkas.commands.printing import print_bench
    from ringkas.runtimes.measure.cases import built_in_texts
    from ringkas.runtimes.measure.http_client import Server
    from ringkas.runtimes.measure.rounds import Procedure
    from ringkas.runtimes.measure.servers import bench_servers
    from ringkas.text_files import read_texts

    if artifacts or options["reference"]:
        raise click.UsageError("--url measures servers: name no artifact and no --reference beside it.")
    if set(options["scenarios"]) - {"server"}:
        raise click.UsageError("--url is for --scenario server alone.")
    if options["html"]:
        raise click.UsageError("--url draws no plots: leave out --html.")
    _check_places(options)
    texts = read_texts(options["texts"]) if options["texts"] else built_in_texts(options["language"] or "en")
    plan = Procedure(
        rounds=options["rounds"],
        threads=options["threads"],
        scenarios=("server",),
        latency_bound_ms=options["latency_bound"],
        rate=options["rate"],
    )
    servers = [Server(url, options["model"]) for url in options["urls"]]
    result = bench_servers(servers, texts, plan, Progress())
    _give(result, options["json_file"], print_bench)
    _write_reports(result, options)


def _check_places(options: dict[str, Any]) -> None:
    from ringkas.files import require_folder_of

    for file in (options["json_file"], options["html"], options["markdown"]):
        if file is not None and str(file) != "-":
            require_folder_of(file)


def _write_reports(result: Any, options: dict[str, Any]) -> None:
    from ringkas.files import write_text

    if options["markdown"]:
        from ringkas.runtimes.measure.report import to_markdown

        write_text(options["markdown"], to_markdown(result))
    if options["html"]:
        from ringkas.runtimes.measure.report import to_html

        write_text(options["html"], to_html(result))


def _compare(artifacts: tuple[Path, ...], options: dict[str, Any]) -> None:
    from ringkas.commands.printing import print_comparison
    from ringkas.runtimes.measure.compare import compare_results, read_result

    if artifacts:
        raise click.UsageError("--compare judges two results: name no artifact beside it.")
    if options["html"] or options["markdown"]:
        raise click.UsageError("--compare writes no page and no tables: leave out --html and --markdown.")
    _check_places(options)
    comparison = compare_results(*map(read_result, options["compare"]))
    _give(comparison, options["json_file"], print_comparison)
    exit_by(not comparison.slower)


def _give(result: Any, json_file: Path | None, print_table: Callable[[Any], None]) -> None:
    """The JSON document alone on stdout when it is asked for there; else the table, and the file if any."""
    from ringkas.files import write_json

    if str(json_file) == "-":
        print_json(result)
        return
    if json_file is not None:
        write_json(json_file, result)
    print_table(result)
