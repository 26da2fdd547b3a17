"""`ringkas sign`: says who made an artifact."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import PLACE


@click.command()
@click.argument("artifact", type=PLACE, required=False)
@click.option("--key", type=PLACE, help="The private key, a .pem file.")
@click.option("--new-key", type=PLACE, metavar="KEY.pem", help="Make a key, and KEY.pub beside it, first.")
def sign(artifact: Path | None, key: Path | None, new_key: Path | None) -> None:
    """Sign ARTIFACT with a private key of Ed25519.

    `ringkas verify ARTIFACT --key KEY.pub` then refuses what its holder did not sign: also an artifact that
    was altered and whose checksums were written anew.
    """
    from ringkas.signing import make_key
    from ringkas.signing import sign as run

    if (key is None) == (new_key is None):
        raise click.UsageError("One of --key and --new-key is needed.", click.get_current_context())
    if artifact is None and new_key is None:
        raise click.UsageError("Missing argument 'ARTIFACT'.", click.get_current_context())
    if new_key is not None:
        click.echo(f"keep {new_key} to yourself; give {make_key(new_key)} away", err=True)
    if artifact is not None:
        click.echo(run(artifact, key or new_key))  # type: ignore[arg-type]
