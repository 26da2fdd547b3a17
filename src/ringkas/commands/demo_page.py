"""`ringkas demo-page`: a search page that runs in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import PLACE, json_option, print_json, variant_option
from ringkas.progress import Progress


@click.command("demo-page")
@click.argument("artifact", type=PLACE)
@variant_option
@click.option("--out", required=True, type=PLACE, help="The folder to make.")
@click.option(
    "--packages", type=PLACE, help="Where npm has installed transformers.js.  [default: installed once]"
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@json_option
def demo_page(
    artifact: Path, variant: str | None, out: Path, packages: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Make a static page that searches with ARTIFACT, an ONNX one, on the device of who opens it.

    Serve the folder with `python -m http.server -d OUT`. It has no external address and works without a
    connection once it was open.
    """
    from ringkas.export.demo_page import demo_page as run

    page = run(artifact, out, variant=variant, packages=packages, overwrite=overwrite, progress=Progress())
    if as_json:
        print_json(page)
        return
    sizes = {"model and tokenizer": page.model, "onnxruntime-web": page.runtime, "all else": page.other}
    print(f"{page.path}: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
    print(f"To see it: python -m http.server -d {page.path}")
