"""What `ringkas build` and `ringkas rebuild` share: the options of TensorRT plans, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ringkas.commands.options import PlaceType, exit_by, print_json

if TYPE_CHECKING:
    from ringkas.export.build import Built
    from ringkas.export.to_tensorrt.plan import PlanOptions
    from ringkas.export.to_tensorrt.rebuild import Rebuilt

plan_options = (
    click.option(
        "--profile", "profiles", multiple=True, metavar="BATCHxTOKENS[@BATCHxTOKENS]",
        help="Shapes that a TensorRT plan takes, and the one it is fastest at; may be repeated.",
    ),
    click.option("--gpu", "gpus", multiple=True, help="Generation such as ada to build for (RTX)."),
    click.option(
        "--timing-cache", type=PlaceType(dir_okay=False),
        help="Keep what TensorRT measures of kernels in this file.",
    ),
    click.option("--workspace-mb", type=click.IntRange(min=1), help="Scratch memory that a kernel may use."),
    click.option("--version-compatible", is_flag=True, help="The plan runs with later versions of TensorRT."),
    click.option("--hardware-compatible", is_flag=True, help="The plan runs on later GPUs too."),
)  # fmt: skip


def read_plan_options(options: Mapping[str, Any], *, defer: bool = False) -> PlanOptions:
    """Takes the options of `plan_options` from a command's own."""
    from ringkas.export.to_tensorrt.plan import PlanOptions

    return PlanOptions(
        defer=defer,
        profiles=options["profiles"],
        gpus=options["gpus"],
        timing_cache=options["timing_cache"],
        workspace_mb=options["workspace_mb"],
        version_compatible=options["version_compatible"],
        hardware_compatible=options["hardware_compatible"],
    )


def refuse_plan_options() -> None:
    """Raises `UsageError` for the first option of plans that the command line gives, where none is built."""
    from ringkas.export.to_tensorrt.plan import PlanOptions

    context = click.get_current_context()
    names = {field.name for field in fields(PlanOptions)}
    for option in context.command.params:
        if option.name in names and is_given(option.name):
            raise click.UsageError(f"{option.opts[0]} goes with a TensorRT target.", context)


def is_given(name: str) -> bool:
    """Whether the command line states an option, be it the default."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def report_built(built: Sequence[Built] | Sequence[Rebuilt], *, as_json: bool, alone: bool = False) -> None:
    """Prints what was made, names what fell short, and exits by it. The JSON of one `alone` is no list."""
    from ringkas.commands.printing import print_built

    rows = [
        {
            "path": str(one.artifact.path),
            "size": one.artifact.size,
            "execution": one.artifact.manifest.execution,
            "parity": one.report,
        }
        for one in built
    ]
    if as_json:
        print_json(rows[0] if alone else rows)
    else:
        print_built([(one.artifact, one.report) for one in built])
    for one in built:
        for failure in one.report.failures:
            click.echo(f"{one.artifact.path}: {failure}", err=True)
    exit_by(all(one.report.passed for one in built))
