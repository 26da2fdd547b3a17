"""`ringkas serve`: OpenAI's embeddings API over artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ringkas.commands.options import threads_option
from ringkas.progress import Progress


@click.command()
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option(
    "--api-key",
    metavar="VARIABLE",
    help="Require the key that this environment variable holds.  [default: RINGKAS_API_KEY, if it is set]",
)
@click.option(
    "--long-texts",
    type=click.Choice(("truncate", "window", "error")),
    default="truncate",
    show_default=True,
    help="Over a model's limit, where a request does not say: cut and count them, encode overlapping windows "
    "and take their mean weighted by tokens, or refuse.",
)
@click.option(
    "--wait-ms",
    type=click.FloatRange(min=0),
    help="A busy server waits so long for a batch to fill; an idle one never.  [default: 2]",
)
@click.option(
    "--queue-tokens",
    type=click.IntRange(min=1),
    help="So many may wait for one model; more are told to come back.  [default: 262144]",
)
@click.option("--max-body-bytes", type=click.IntRange(min=1), help="Of one request.  [default: 8 MiB]")
@click.option("--max-inputs", type=click.IntRange(min=1), help="Texts in one request.  [default: 2048]")
@click.option("--max-text-bytes", type=click.IntRange(min=1), help="Of one text.  [default: 256 KiB]")
@click.option("--allow-failed", is_flag=True, help="Serve artifacts whose parity fell short.")
@threads_option
def serve(artifacts: tuple[Path, ...], **options: Any) -> None:
    """Answer OpenAI's /v1/embeddings with ARTIFACTS: single texts of many clients share batches.

    Add :query or :document to a model's name, or send input_type, for its prompts. /docs describes the API,
    /health and /ready answer probes, /metrics is for Prometheus. SIGTERM ends it after what was begun.
    """
    from ringkas.runtimes.serve.limits import Limits
    from ringkas.runtimes.serve.run import Service, read_key
    from ringkas.runtimes.serve.run import serve as run

    stated = {
        "wait_ms": options["wait_ms"],
        "queue_tokens": options["queue_tokens"],
        "body_bytes": options["max_body_bytes"],
        "inputs": options["max_inputs"],
        "text_bytes": options["max_text_bytes"],
    }
    limits = replace(Limits(), **{name: value for name, value in stated.items() if value is not None})
    service = Service(
        artifacts=artifacts,
        host=options["host"],
        port=options["port"],
        key=read_key(options["api_key"]),
        long_texts=options["long_texts"],
        threads=options["threads"],
        allow_failed=options["allow_failed"],
        limits=limits,
    )
    run(service, Progress())
