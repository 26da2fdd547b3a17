"""`ringkas rebuild`: the TensorRT plan of an artifact, made on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import PLACE, json_option, with_options
from ringkas.commands.plan_options import plan_options, read_plan_options, report_built
from ringkas.progress import Progress


@click.command()
@click.argument("artifact", type=PLACE)
@click.option("--target", required=True, help="Such as tensorrt-fp16: the precision of the artifact's graph.")
@click.option("--out", required=True, type=PLACE, help="It lands in OUT/TARGET.")
@with_options(plan_options)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@json_option
def rebuild(artifact: Path, target: str, out: Path, as_json: bool, **options: Any) -> None:
    """Build the TensorRT plan of ARTIFACT for this machine, from the graph that it carries.

    Needs TensorRT but no PyTorch. Where there is a GPU, the plan is run on the reference texts that the
    artifact carries, and parity.json then says how near it is on this GPU.
    """
    from ringkas.export.to_tensorrt.rebuild import rebuild as run

    done = run(
        artifact,
        target,
        out,
        read_plan_options(options),
        overwrite=options["overwrite"],
        progress=Progress(),
    )
    report_built([done], as_json=as_json, alone=True)
