"""`ringkas inspect`: what an artifact is."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import PLACE, json_option, print_json, variant_option


@click.command()
@click.argument("artifact", type=PLACE)
@variant_option
@click.option("--command", "as_command", is_flag=True, help="Print the command that makes it again instead.")
@json_option
def inspect(artifact: Path, variant: str | None, as_json: bool, as_command: bool) -> None:
    """Show what ARTIFACT is: its source, its files, its newest parity.

    --command prints the `ringkas build` that makes the same files, by the manifest alone; what that cannot
    know, such as where a local checkpoint was, is said on stderr.
    """
    from ringkas.artifact import open_artifact
    from ringkas.commands.printing import print_artifact

    opened = open_artifact(artifact, variant)
    if as_command:
        from ringkas.export.recipe import recipe_of

        recipe = recipe_of(opened)
        for note in recipe.notes:
            click.echo(f"ringkas: {note}", err=True)
        click.echo(recipe.command)
    elif as_json:
        print_json({"manifest": opened.manifest, "size": opened.size, "parity": opened.parity()})
    else:
        print_artifact(opened)
