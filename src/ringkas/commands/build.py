"""`ringkas build`: a checkpoint in, verified artifacts out."""

from __future__ import annotations

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
from ringkas.commands.plan_options import (
    is_given,
    plan_options,
    read_plan_options,
    refuse_plan_options,
    report_built,
)
from ringkas.commands.wishes import parse_size, read_scheme_option, read_wish, run_search, wish_options
from ringkas.errors import WishError
from ringkas.machine import share_cores
from ringkas.progress import Progress


@click.command()
@with_options(model_options)
@click.option("--target", "targets", multiple=True, help="What to make; may be repeated.")
@with_options(wish_options)
@click.option("--scheme", type=PLACE, help="Quantise as this .toml or .json says.")
@click.option("--transformers-js", is_flag=True, help="Name ONNX graphs as transformers.js looks for them.")
@click.option("--single-file", is_flag=True, help="Keep an ONNX graph's weights in the graph, up to 2 GB.")
@click.option(
    "--memory",
    metavar="4GB",
    help="Float32 weights of more than this are read tensor by tensor, for GGUF.  [the machine's]",
)
@click.option("--flat", is_flag=True, help="ONNX graph beside tokenizer.json, with an unused token_type_ids.")
@click.option("--out", required=True, type=PLACE, help="Artifacts land in OUT/TARGET.")
@click.option("--languages", metavar="ko,en", help="Cut the vocabulary to these first.")
@with_options(vocabulary_options)
@with_options(plan_options)
@click.option("--defer", is_flag=True, help="Leave TensorRT plans to `ringkas rebuild` on the device.")
@witness_option
@json_option
def build(model: str, out: Path, as_json: bool, **options: Any) -> None:
    """Convert MODEL and verify what was made.

    Every artifact is compared with the PyTorch reference before it gets its name. One that falls short is
    kept, marked as failed, and the exit status is 1.

    In place of --target state a wish: --min-cosine, --max-size, --fastest, or several. It searches ONNX forms
    of 4 to 32 bits, layer by layer, for the smallest that is as near as --min-cosine; with --max-size alone
    for the nearest; with --fastest for the fastest of those that meet the rest. The choice lands in OUT under
    its target's name, all that was found in OUT/search.

    With --languages the vocabulary is cut to what text in them needs, which changes nothing for text whose
    tokens are all kept; the certificate in ringkas.json says how much text that is.
    """
    share_cores()

    from ringkas.checkpoint import open_checkpoint
    from ringkas.export.build import BuildOptions, build_all, prune_options
    from ringkas.extras import TO_ONNX, require_part
    from ringkas.targets import target

    wish = read_wish(options)
    if wish is None and is_given("seed"):
        raise click.UsageError(
            "--seed goes with --min-cosine, --max-size or --fastest.", click.get_current_context()
        )
    if wish is not None and options["memory"] is not None:
        raise click.UsageError("--memory goes with --target.", click.get_current_context())
    formats = [target(name).format for name in options["targets"]]
    for needs in [form.needs for form in formats] or [TO_ONNX]:
        require_part(needs)  # before a checkpoint of gigabytes is fetched
    if not any(form.plans for form in formats):
        refuse_plan_options()
    scheme = read_scheme_option(options)
    languages = [] if options["languages"] is None else parse_languages(options["languages"])
    pruning = prune_options(
        languages,
        parse_corpora(options["corpora"]),
        options["max_tokens"],
        parse_weights(options["weights"]),
    )
    checkpoint = open_checkpoint(model, options["revision"], as_embedder=options["as_embedder"])
    if wish is not None:
        try:
            built = [run_search(checkpoint, wish, out, options, pruning)]
        except WishError:
            if as_json:
                print_json([])
            raise
    else:
        targets = options["targets"] if scheme is None else [scheme.target]
        plan = read_plan_options(options, defer=options["defer"])
        asked = BuildOptions(
            overwrite=options["overwrite"],
            prune=pruning,
            scheme=scheme,
            transformers_js=options["transformers_js"],
            single_file=options["single_file"],
            flat=options["flat"],
            plan=plan,
            witness=not options["no_witness"],
            memory=None if options["memory"] is None else parse_size(options["memory"]),
        )
        built = build_all(checkpoint, targets, out, asked, Progress())
    report_built(built, as_json=as_json)
