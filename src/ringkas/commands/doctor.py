"""`ringkas doctor`: what runs here."""

from __future__ import annotations

import click

from ringkas.commands.options import json_option, print_json


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
