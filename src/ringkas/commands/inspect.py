"""`ringkas inspect`: what an artifact is."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import PLACE, json_option, print_json


@click.command()
@click.argument("artifact", type=PLACE)
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what ARTIFACT is: its source, its files, its newest parity."""
    from ringkas.artifact import open_artifact
    from ringkas.commands.printing import print_artifact

    opened = open_artifact(artifact)
    if as_json:
        print_json({"manifest": opened.manifest, "size": opened.size, "parity": opened.parity()})
    else:
        print_artifact(opened)
