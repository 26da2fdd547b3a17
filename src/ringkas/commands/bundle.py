"""`ringkas bundle`: variants of one model in one folder, ready for a hub."""

from __future__ import annotations

from pathlib import Path

import click

from ringkas.commands.options import PLACE, exit_by, json_option, print_json, threads_option
from ringkas.progress import Progress


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=PLACE)
@click.option("--out", required=True, type=PLACE, help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--push", "repository", metavar="ORG/NAME", help="Then send it to this repository of the hub.")
@click.option("--dry-run", is_flag=True, help="Of --push: say what would be sent, and send nothing.")
@threads_option
@json_option
def bundle(artifacts: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool, **options: object) -> None:
    """Lay the variants ARTIFACTS of one model side by side in one folder.

    Each graph and GGUF gets the name by which other programs find it (onnx/model_quantized.onnx,
    onnx/model_q4.onnx, ...); what they share is there once, with one model card. Every variant is verified
    where it then lies. `ringkas.load` and `ringkas verify` take one by --variant.
    """
    from ringkas.commands.printing import print_built
    from ringkas.export.bundle import bundle as run
    from ringkas.export.push import plan_upload, push

    repository = options["repository"]
    if options["dry_run"] and repository is None:
        raise click.UsageError("--dry-run goes with --push.", click.get_current_context())
    threads = options["threads"]
    progress = Progress()
    bundled = run(
        artifacts, out, overwrite=overwrite, threads=threads if isinstance(threads, int) else None,
        progress=progress,
    )  # fmt: skip
    passed = all(one.report.passed for one in bundled)
    upload = None
    if isinstance(repository, str) and passed:
        send = plan_upload if options["dry_run"] else push
        upload = send(out, repository)
        verb = "would send" if options["dry_run"] else "sent"
        progress.say(f"{verb} {len(upload.files)} files, {upload.bytes / 1e6:.1f} MB, to {repository}")
    if as_json:
        variants = [
            {"variant": one.artifact.variant, "manifest": one.artifact.manifest, "parity": one.report}
            for one in bundled
        ]
        print_json({"variants": variants, "upload": upload})
    else:
        print_built((one.artifact, one.report) for one in bundled)
    exit_by(passed)
