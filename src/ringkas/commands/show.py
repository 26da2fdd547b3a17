"""`ringkas inspect` and `ringkas doctor`: what an artifact is, and what runs here."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import json_option, print_json


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
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


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what runs on this machine, and what to install for the rest."""
    from ringkas.commands.printing import print_diagnosis
    from ringkas.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        print_json(diagnosis)
    else:
        print_diagnosis(diagnosis)
