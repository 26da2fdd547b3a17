"""The command line. Exit status: 0 done and parity held; 1 parity fell short; 2 bad input or usage.

Progress goes to stderr; with --json, stdout carries one JSON document and nothing else.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from ringkas.errors import RingkasError, TargetError, TextError
from ringkas.progress import Progress
from ringkas.version import __version__

PARITY_FELL_SHORT, BAD_INPUT, DEFECT = 1, 2, 3
# Lines that `ringkas embed` encodes at a time, so that a large file needs little memory.
_CHUNK = 4096

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
_threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads an operator may use.  [default: the engine's choice]",
)


class _Group(click.Group):
    """Prints bad input or usage as one line on stderr and exits with status 2."""

    def make_context(
        self, info_name: str | None, args: list[str], *others: Any, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, *others, **extra)
        except click.exceptions.NoArgsIsHelpError:
            raise  # a bare `ringkas` prints the help
        except click.UsageError as error:
            _say(_usage(error))
            raise click.exceptions.Exit(BAD_INPUT) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RingkasError as error:
            _say(str(error))
        except click.UsageError as error:
            _say(_usage(error))
        except BrokenPipeError:
            raise  # a reader that stops early is not bad input: click ends quietly
        except (click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            _say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        except Exception:
            traceback.print_exc()
            _say("this is a defect of ringkas: please report it with the lines above")
            ctx.exit(DEFECT)
        ctx.exit(BAD_INPUT)


def _say(line: str) -> None:
    click.echo(f"ringkas: {line}", err=True)


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "ringkas"
    return f"{error.format_message()} See: {command} --help"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ringkas")
def cli() -> None:
    """Turn a text-embedding checkpoint into small, fast, verified artifacts, and run them.

    \b
    ringkas build demo --target onnx-fp32 --target onnx-fp16 --out dist
    ringkas verify dist/onnx-fp16 --reference demo
    echo "how do I reset my password?" | ringkas embed dist/onnx-fp32 --output vectors.npy
    ringkas inspect dist/onnx-fp16

    MODEL is a checkpoint folder, a hub id such as intfloat/multilingual-e5-small, or `demo`: real
    all-MiniLM-L6-v2 weights that come as a Python package.
    """


_model_options = (
    click.argument("model"),
    click.option("--revision", help="The hub's branch, tag or commit."),
    click.option("--overwrite", is_flag=True, help="Replace what is there."),
)
_vocabulary_options = (
    click.option(
        "--corpus", "corpora", multiple=True, metavar="LANGUAGE=FILE",
        help="Text that chooses tokens of a language; plain or .jsonl, also .gz; may be repeated.",
    ),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Keep at most so many, the most useful."),
)  # fmt: skip


def _with(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Several click options as one decorator, in the order in which --help lists them."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@cli.command()
@_with(_model_options)
@click.option("--target", "targets", multiple=True, required=True, help="What to make; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Artifacts land in OUT/TARGET.")
@click.option("--languages", metavar="ko,en", help="Cut the vocabulary to these first.")
@_with(_vocabulary_options)
@_json_option
def build(model: str, targets: tuple[str, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Convert MODEL and verify what was made.

    Every artifact is compared with the PyTorch reference before it gets its name. One that falls short is
    kept, marked as failed, and the exit status is 1.

    With --languages the vocabulary is cut to what text in them needs, which changes nothing for text whose
    tokens are all kept; the certificate in ringkas.json says how much text that is.
    """
    from ringkas.checkpoint import open_checkpoint
    from ringkas.export.build import BuildOptions, build_all, prune_options
    from ringkas.tables import print_built

    languages = [] if options["languages"] is None else _languages(options["languages"])
    pruning = prune_options(languages, _corpora(options["corpora"]), options["max_tokens"])
    checkpoint = open_checkpoint(model, options["revision"])
    built = build_all(checkpoint, targets, out, BuildOptions(options["overwrite"], pruning), Progress())
    if as_json:
        _print_json(
            [
                {"path": str(one.artifact.path), "size": one.artifact.size, "parity": one.report}
                for one in built
            ]
        )
    else:
        print_built([(one.artifact, one.report) for one in built])
    for one in built:
        for failure in one.report.failures:
            click.echo(f"{one.artifact.path}: {failure}", err=True)
    _exit_by(all(one.report.passed for one in built))


@cli.command()
@_with(_model_options)
@click.option("--languages", required=True, metavar="ko,en", help="BCP-47 tags, parted by commas.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@_with(_vocabulary_options)
@click.option("--coverage", type=float, help="Keep at least this share of expected tokens, such as 0.9995.")
@click.option("--keep-all-characters", is_flag=True, help="Keep single characters of every script.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw rows against expected coverage (a .png).")
@_json_option
def prune(model: str, languages: str, out: Path, as_json: bool, **options: Any) -> None:
    """Cut MODEL's vocabulary to LANGUAGES and certify what that changes.

    Text whose tokens are all kept gets the very same vectors. The certificate says, per language, on text
    that chose nothing, how much text that is. The result is an ordinary checkpoint folder.
    """
    from ringkas.checkpoint import open_checkpoint
    from ringkas.export.vocabulary.curve import plot_checkpoint
    from ringkas.export.vocabulary.prune import PruneOptions, make_plan, prune_checkpoint
    from ringkas.files import refuse_existing
    from ringkas.tables import print_vocabulary

    asked = PruneOptions(
        languages=tuple(_languages(languages)),
        corpora={tag: tuple(files) for tag, files in _corpora(options["corpora"]).items()},
        max_tokens=options["max_tokens"],
        coverage=options["coverage"],
        keep_all_characters=options["keep_all_characters"],
    )
    checkpoint = open_checkpoint(model, options["revision"])
    refuse_existing([out], overwrite=options["overwrite"])
    if options["plot"]:
        plot_checkpoint(make_plan(checkpoint, asked, Progress()), options["plot"])
    pruned = prune_checkpoint(checkpoint, asked, out, overwrite=options["overwrite"], progress=Progress())
    assert pruned.vocabulary is not None
    if as_json:
        _print_json(pruned.vocabulary)
    else:
        print_vocabulary(pruned.vocabulary)


@cli.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--reference", metavar="MODEL", help="Compare with this model instead of the stored vectors.")
@click.option(
    "--texts", multiple=True, type=click.Path(path_type=Path), help="Your own texts: a file, or a .jsonl."
)
@_threads_option
@_json_option
def verify(
    artifact: Path, reference: str | None, texts: tuple[Path, ...], threads: int | None, as_json: bool
) -> None:
    """Compare ARTIFACT with its PyTorch reference.

    Checks every file's checksum, then token ids, then vectors: cosines per language, neighbours, ranks.
    Without --reference it uses the vectors that were stored at build time, so it needs no PyTorch. The
    report is kept as parity.json in the artifact.
    """
    from ringkas.runtimes.verify import verify as run
    from ringkas.tables import print_report

    report = run(artifact, reference=reference, texts=texts, threads=threads, progress=Progress())
    if as_json:
        _print_json(report)
    else:
        print_report(report)
    _exit_by(report.passed)


@cli.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="NAME", help="A prompt of the checkpoint, such as query; '' for none.")
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="Texts, one a line, or a .jsonl.  [default: stdin]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A .npy or .jsonl file.  [default: JSON lines on stdout]",
)
@click.option("--dimensions", type=int, help="Keep only the first so many (Matryoshka), normalised again.")
@click.option("--allow-failed", is_flag=True, help="Use an artifact whose parity fell short.")
@_threads_option
def embed(
    artifact: Path,
    prompt: str | None,
    source: Path | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Encode texts with ARTIFACT: line n of the input is vector n of the output."""
    from ringkas.runtimes.encoder import load
    from ringkas.runtimes.output import open_writer
    from ringkas.runtimes.vectors import check_dimensions
    from ringkas.texts import check_texts, parse_texts, read_texts

    texts = check_texts(read_texts(source) if source else parse_texts(_stdin().read(), "the standard input"))
    progress, dimensions = Progress(), options["dimensions"]
    with load(artifact, threads=options["threads"], allow_failed=options["allow_failed"]) as encoder:
        if dimensions is not None:
            check_dimensions(dimensions, encoder.dimension)
        with open_writer(output, dimensions or encoder.dimension) as writer:
            for chunk in _chunks(texts):
                writer.write(encoder.encode(chunk, prompt=prompt, dimensions=dimensions))
                if len(texts) > _CHUNK:
                    progress.say(f"{writer.rows} of {len(texts)} texts")
    place = f" in {output}" if output else ""
    progress.say(f"{len(texts)} vectors of {dimensions or encoder.dimension} dimensions{place}")


@cli.command()
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--reference", metavar="MODEL", help="Measure PyTorch on this model beside them.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@_threads_option
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
        _print_json(result)
    else:
        write_json(json_file, result)
        print_bench(result)


@cli.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@_json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what ARTIFACT is: its source, its files, its newest parity."""
    from ringkas.artifact import open_artifact
    from ringkas.tables import print_artifact

    opened = open_artifact(artifact)
    if as_json:
        _print_json({"manifest": opened.manifest, "size": opened.size, "parity": opened.parity()})
    else:
        print_artifact(opened)


@cli.command()
@_json_option
def doctor(as_json: bool) -> None:
    """Tell what runs on this machine, and what to install for the rest."""
    from ringkas.doctor import diagnose
    from ringkas.tables import print_diagnosis

    diagnosis = diagnose()
    if as_json:
        _print_json(diagnosis)
    else:
        print_diagnosis(diagnosis)


def main() -> None:
    """The `ringkas` command."""
    cli()


def _languages(stated: str) -> list[str]:
    languages = [tag.strip() for tag in stated.split(",") if tag.strip()]
    if not languages:
        raise TargetError("--languages names none", fix="Write them as ko,en")
    return languages


def _corpora(stated: Sequence[str]) -> dict[str, list[Path]]:
    """`ko=FILE` options, by language."""
    corpora: dict[str, list[Path]] = {}
    for one in stated:
        language, separator, file = one.partition("=")
        if not (language and separator and file):
            raise TextError(f"--corpus {one} names no language and file", fix="Write it as ko=FILE")
        corpora.setdefault(language, []).append(Path(file))
    return corpora


def _exit_by(passed: bool) -> None:
    if not passed:
        sys.exit(PARITY_FELL_SHORT)


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=1).decode("utf-8") + "\n")


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise TextError("there is nothing to encode", fix="Pipe texts in, or name a file with --input")
    return sys.stdin.buffer


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]
