"""`ringkas embed`: texts in, vectors out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from ringkas.commands.options import threads_option
from ringkas.errors import TextError
from ringkas.progress import Progress

# Lines that `ringkas embed` encodes and writes at a time: vectors take far more memory than their texts.
_CHUNK = 4096


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="NAME", help="A prompt of the checkpoint, such as query; '' for none.")
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="Texts, one a line, or .jsonl; also .gz and .zst.  [default: stdin]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A .npy or .jsonl file.  [default: JSON lines on stdout]",
)
@click.option("--dimensions", type=int, help="Keep only the first so many (Matryoshka), normalised again.")
@click.option("--allow-failed", is_flag=True, help="Use an artifact whose parity fell short.")
@threads_option
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
    from ringkas.text_files import read_texts

    texts = read_texts(source or _stdin())
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


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise TextError("there is nothing to encode", fix="Pipe texts in, or name a file with --input")
    return sys.stdin.buffer


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]
