"""What may stand in place of `--target`: a wish that a search answers, or an expert's scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringkas.errors import TargetError
from ringkas.progress import Progress

if TYPE_CHECKING:
    from ringkas.checkpoint import Checkpoint
    from ringkas.export.build import Built
    from ringkas.export.search.search import Wish
    from ringkas.export.vocabulary.prune import PruneOptions
    from ringkas.quantize.for_onnx.schemes import OnnxScheme

wish_options = (
    click.option("--min-cosine", type=float, help="Search: the least cosine with the reference of any text."),
    click.option("--max-size", metavar="25MB", help="Search: the most that the whole folder may weigh."),
    click.option("--fastest", is_flag=True, help="Search: the fastest of those that meet the rest."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of a search: parts the texts."),
)  # fmt: skip

_IN_PLACE, _WISHES = ("--target", "--scheme"), ("--min-cosine", "--max-size", "--fastest")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(stated: str) -> int:
    """Bytes of `25MB`, `1.5 GiB` or `4000000`.

    Raises:
        TargetError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", stated, re.IGNORECASE | re.ASCII)
    if found is None or found[2].upper() not in _UNITS:
        raise TargetError(f"{stated!r} is no size", fix="Write it as 25MB, 25MiB or 25000000")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def read_wish(options: Mapping[str, Any]) -> Wish | None:
    """The wish among the options of a build; None where there is none.

    Raises:
        UsageError: none of --target, --scheme and a wish is there, or more than one.
    """
    from ringkas.export.search.search import Wish

    given = [name for name in (*_IN_PLACE, *_WISHES) if _is_given(options[_key(name)])]
    wished = [name for name in given if name in _WISHES]
    stated = [name for name in given if name in _IN_PLACE] + wished[:1]
    if not stated:
        raise click.UsageError(
            "Missing option '--target'. In its place: --min-cosine, --max-size, --fastest, or --scheme.",
            click.get_current_context(),
        )
    if len(stated) > 1:
        raise click.UsageError(f"{stated[1]} takes the place of {stated[0]}.", click.get_current_context())
    if not wished:
        return None
    for name in ("--transformers-js", "--single-file", "--flat"):
        if options[_key(name)]:
            raise click.UsageError(f"{name} goes with --target or --scheme.", click.get_current_context())
    size = options["max_size"]
    return Wish(options["min_cosine"], None if size is None else parse_size(size), options["fastest"])


def read_scheme_option(options: Mapping[str, Any]) -> OnnxScheme | None:
    """The scheme that --scheme names."""
    from ringkas.quantize.for_onnx.scheme_file import read_scheme

    return None if options["scheme"] is None else read_scheme(options["scheme"])


def run_search(
    checkpoint: Checkpoint, wish: Wish, out: Path, options: Mapping[str, Any], prune: PruneOptions | None
) -> Built:
    """Searches with the command line's options.

    Raises:
        WishError: nothing meets the wish.
    """
    from ringkas.export.search.search import SearchOptions, search

    settings = SearchOptions(options["overwrite"], prune, options["seed"], witness=not options["no_witness"])
    return search(checkpoint, wish, out, settings, Progress())


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != ()  # 0.0 is given, and wrong


def _key(name: str) -> str:
    return {"--target": "targets"}.get(name, name.removeprefix("--").replace("-", "_"))
