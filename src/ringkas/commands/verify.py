"""`ringkas verify`: how near an artifact is to its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import (
    PLACE,
    exit_by,
    json_option,
    print_json,
    threads_option,
    variant_option,
    witness_option,
)
from ringkas.machine import share_cores
from ringkas.progress import Progress


@click.command()
@click.argument("artifact", type=PLACE)
@variant_option
@click.option("--reference", metavar="MODEL", help="Compare with this model instead of the stored vectors.")
@click.option("--texts", multiple=True, type=PLACE, help="Your own texts: a file, or a .jsonl.")
@click.option("--key", type=PLACE, help="Refuse what the holder of this public key did not sign.")
@threads_option
@witness_option
@json_option
def verify(artifact: Path, reference: str | None, as_json: bool, **options: Any) -> None:
    """Compare ARTIFACT with its PyTorch reference.

    Checks every file's checksum, then token ids, then vectors: cosines per language, neighbours, ranks.
    With --reference the model's own library is asked first whether our reading of it is right.
    Without --reference it uses the vectors that were stored at build time, so it needs no PyTorch. The
    report is kept as parity.json in the artifact.
    """
    share_cores()

    from ringkas.artifact import open_artifact
    from ringkas.commands.printing import print_report
    from ringkas.runtimes.parity.verify import verify as run

    opened = open_artifact(artifact, options["variant"])
    if options["key"] is not None:
        from ringkas.signing import check_signature

        check_signature(opened, options["key"])

    report = run(
        opened,
        reference=reference,
        witness=not options["no_witness"],
        texts=options["texts"],
        threads=options["threads"],
        progress=Progress(),
    )
    if as_json:
        print_json(report)
    else:
        print_report(report)
    exit_by(report.passed)
