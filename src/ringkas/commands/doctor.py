"""`ringkas doctor`: what runs here."""

from __future__ import annotations

import click

from ringkas.commands.options import json_option, print_json


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what runs on this machine, what to install for the rest, and whether 8 bits are faster here.

    The last is measured, which takes a second: a processor's name and features do not say it.
    """
    from msgspec.structs import replace

    from ringkas.commands.printing import print_diagnosis
    from ringkas.doctor import diagnose
    from ringkas.errors import RingkasError
    from ringkas.runtimes.measure.products import measure_products

    diagnosis = diagnose()
    try:
        found = measure_products()
        diagnosis = replace(diagnosis, products={"short": found.short, "long": found.long})
        verdict = found.verdict()
    except RingkasError:  # no onnxruntime that works, which the parts say
        verdict = ""
    if as_json:
        print_json(diagnosis)
    else:
        print_diagnosis(diagnosis, verdict)
