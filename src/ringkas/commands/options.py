"""What several commands share: options, their reading, exit statuses, and the JSON document."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from ringkas.errors import TargetError, TextError
from ringkas.files import expand

# The last two as a shell says it of a process that a signal ended: 128 and the signal's number.
PARITY_FELL_SHORT, BAD_INPUT, DEFECT, INTERRUPTED, CLOSED_PIPE = 1, 2, 3, 130, 141


class PlaceType(click.Path):
    """A path on disk, also with `~`: a shell leaves it as it is in `--out=~/dist`."""

    def __init__(self, *, allow_dash: bool = False, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


PLACE = PlaceType()

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads an operator may use.  [default: the engine's choice]",
)
variant_option = click.option("--variant", metavar="TARGET", help="Which of a bundle is meant.")
witness_option = click.option(
    "--no-witness",
    is_flag=True,
    help="Do not ask the model's own library (sentence-transformers) whether it computes the same.",
)
model_options = (
    click.argument("model"),
    click.option("--revision", help="The hub's branch, tag or commit."),
    click.option(
        "--as-embedder", is_flag=True, help="The encoder of a classifier, reranker or tagger is meant."
    ),
    click.option("--overwrite", is_flag=True, help="Replace what is there."),
)
vocabulary_options = (
    click.option(
        "--corpus", "corpora", multiple=True, metavar="LANGUAGE=FILE",
        help="Text that chooses tokens of a language: plain, .jsonl or Parquet, also .gz and .zst; may be "
        "repeated.",
    ),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Keep at most so many, the most useful."),
    click.option(
        "--weights", metavar="ko=3,en=1",
        help="With --max-tokens: how many times over a language's changed text counts.",
    ),
)  # fmt: skip


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Several click options as one decorator, in the order in which --help lists them."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def parse_languages(stated: str) -> list[str]:
    languages = [tag.strip() for tag in stated.split(",") if tag.strip()]
    if not languages:
        raise TargetError("--languages names none", fix="Write them as ko,en")
    return languages


def parse_corpora(stated: Sequence[str]) -> dict[str, list[Path]]:
    """`ko=FILE` options, by language."""
    corpora: dict[str, list[Path]] = {}
    for one in stated:
        language, separator, file = one.partition("=")
        if not (language and separator and file):
            raise TextError(f"--corpus {one} names no language and file", fix="Write it as ko=FILE")
        corpora.setdefault(language, []).append(expand(file))
    return corpora


def parse_weights(stated: str | None) -> dict[str, float]:
    """`ko=3,en=1`, by language."""
    weights: dict[str, float] = {}
    for one in (stated or "").split(","):
        if not one.strip():
            continue
        language, _, weight = one.strip().partition("=")
        try:
            weights[language] = float(weight)
        except ValueError:
            raise TargetError(f"--weights {one} gives no number", fix="Write them as ko=3,en=1") from None
    return weights


def exit_by(passed: bool) -> None:
    if not passed:
        sys.exit(PARITY_FELL_SHORT)


def print_json(value: Any) -> None:
    """One document on stdout, UTF-8 whatever the locale: JSON has no other encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    sys.stdout.buffer.flush()
