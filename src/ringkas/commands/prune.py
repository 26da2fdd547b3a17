"""`ringkas prune`: a checkpoint in, a smaller checkpoint out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import (
    PLACE,
    json_option,
    model_options,
    parse_corpora,
    parse_languages,
    parse_weights,
    print_json,
    vocabulary_options,
    with_options,
    witness_option,
)
from ringkas.machine import share_cores
from ringkas.progress import Progress


@click.command()
@with_options(model_options)
@click.option("--languages", required=True, metavar="ko,en", help="BCP-47 tags, parted by commas.")
@click.option("--out", required=True, type=PLACE, help="The folder to write.")
@with_options(vocabulary_options)
@click.option("--coverage", type=float, help="Keep at least this share of expected tokens, such as 0.9995.")
@click.option("--keep-all-characters", is_flag=True, help="Keep single characters of every script.")
@click.option("--plot", type=PLACE, help="Draw rows against expected coverage (a .png).")
@witness_option
@json_option
def prune(model: str, languages: str, out: Path, as_json: bool, **options: Any) -> None:
    """Cut MODEL's vocabulary to LANGUAGES and certify what that changes.

    Text whose tokens are all kept gets the very same vectors. The certificate says, per language, on text
    that chose nothing, how much text that is. The result is an ordinary checkpoint folder.
    """
    share_cores()

    from ringkas.checkpoint import open_checkpoint
    from ringkas.commands.printing import print_vocabulary
    from ringkas.export.vocabulary.curve import plot_checkpoint
    from ringkas.export.vocabulary.plot import check_place
    from ringkas.export.vocabulary.prune import PruneOptions, make_plan, prune_by
    from ringkas.files import refuse_existing
    from ringkas.runtimes.parity.witness import NOBODY, examine

    if options["plot"]:
        check_place(options["plot"])
    asked = PruneOptions(
        languages=tuple(parse_languages(languages)),
        corpora={tag: tuple(files) for tag, files in parse_corpora(options["corpora"]).items()},
        max_tokens=options["max_tokens"],
        coverage=options["coverage"],
        keep_all_characters=options["keep_all_characters"],
        weights=parse_weights(options["weights"]),
    )
    checkpoint = open_checkpoint(model, options["revision"], as_embedder=options["as_embedder"])
    refuse_existing([out], overwrite=options["overwrite"])
    witness = NOBODY if options["no_witness"] else examine(checkpoint, asked.languages, Progress())
    plan = replace(make_plan(checkpoint, asked, Progress()), witness=witness)
    if options["plot"]:
        plot_checkpoint(plan, options["plot"])
    pruned = prune_by(plan, out, overwrite=options["overwrite"], progress=Progress())
    assert pruned.vocabulary is not None
    if as_json:
        print_json(pruned.vocabulary)
    else:
        print_vocabulary(pruned.vocabulary)
