"""Artifacts on a port until the process is told to end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ringkas.artifact import Artifact, open_artifact
from ringkas.errors import RingkasError, TargetError
from ringkas.extras import require
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import load
from ringkas.runtimes.long_texts import LongTexts
from ringkas.runtimes.serve.limits import Limits

KEY_VARIABLE = "RINGKAS_API_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Service:
    """What is served, and to whom.

    Args:
        artifacts: folders; a model is named as the artifact, with its target where two share a name.
        host: the address to listen on.
        port: 0 takes a free one.
        key: that every request must carry; None for none.
        long_texts: what becomes of texts over a model's limit where a request does not say.
        threads: an operator may use.
        allow_failed: serve artifacts whose parity fell short.
    """

    artifacts: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = None
    long_texts: LongTexts = "truncate"
    threads: int | None = None
    allow_failed: bool = False
    limits: Limits = field(default_factory=Limits)


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable: RINGKAS_API_KEY, if it is set, unless another is named.

    Raises:
        TargetError: the one that is named is not set.
    """
    found = os.environ.get(variable or KEY_VARIABLE, "")
    if variable and not found:
        raise TargetError(f"the environment variable {variable} holds no key", fix="Set it, and start again")
    return found or None


def model_names(artifacts: Sequence[Artifact]) -> list[str]:
    """One a model: the artifact's name, `name-target` where two share it.

    Raises:
        TargetError: the same artifact is named twice.
    """
    names = [artifact.manifest.name for artifact in artifacts]
    full = [f"{artifact.manifest.name}-{artifact.manifest.target}" for artifact in artifacts]
    found = [name if names.count(name) == 1 else long for name, long in zip(names, full, strict=True)]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise TargetError(f"two artifacts are both {twice}", fix="Serve one of them, or each on its own port")
    return found


def serve(service: Service, progress: Progress = QUIET) -> None:
    """Loads the artifacts, listens, and answers until SIGTERM or SIGINT; then finishes what was begun.

    Raises:
        RingkasError: an artifact cannot be loaded, or the port cannot be had.
    """
    for module in ("starlette", "uvicorn", "httptools", "prometheus_client"):
        require("serve", module)
    import uvicorn

    from ringkas.runtimes.serve.app import make_app
    from ringkas.runtimes.serve.metrics import Metrics
    from ringkas.runtimes.serve.models import Model

    opened = [open_artifact(path) for path in service.artifacts]
    names, limits, metrics = model_names(opened), service.limits, Metrics()
    with _listening(service) as listener:
        models = []
        for name, artifact in zip(names, opened, strict=True):
            with progress.stage(f"loading {name}"):
                encoder = load(artifact, threads=service.threads, allow_failed=service.allow_failed)
                encoder.encode("the first text is the slowest", prompt="")
            models.append(Model(name, encoder, limits, service.long_texts, metrics.of(name).batch))
        app = make_app(models, limits, key=service.key, metrics=metrics)
        config = uvicorn.Config(
            app, http="httptools", ws="none", log_config=None, access_log=False, server_header=False,
            limit_concurrency=limits.connections, timeout_graceful_shutdown=limits.grace_seconds,
        )  # fmt: skip
        host, port = listener.getsockname()[:2]
        if service.host not in _LOOPBACK and service.key is None:
            progress.say(f"anybody who reaches {host} may use this server: set {KEY_VARIABLE} to a key")
        progress.say(f"serving {', '.join(names)} on http://{host}:{port}")
        # uvicorn raises the signal again when it has ended: to be told to end is no failure.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(service: Service) -> socket.socket:
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((service.host, service.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise RingkasError(
            f"cannot listen on {service.host}:{service.port}",
            why=error.strerror or str(error),
            fix="Choose another --port or --host",
        ) from None
    return listener
