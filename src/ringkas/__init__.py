"""ringkas: small, fast, verified artifacts from multilingual text-embedding checkpoints.

Checkpoint --prune--> Checkpoint --export/quantize--> Artifact --load--> Encoder --encode--> vectors
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ringkas.version import __version__

if TYPE_CHECKING:
    from ringkas.artifact import Artifact, open_artifact
    from ringkas.checkpoint import Checkpoint, open_checkpoint
    from ringkas.errors import RingkasError
    from ringkas.export.build import build, build_all
    from ringkas.export.bundle import bundle
    from ringkas.export.search.search import Wish, search
    from ringkas.runtimes.encoder import Encoder, load, load_reference_encoder
    from ringkas.runtimes.parity.judge import ParityReport
    from ringkas.runtimes.parity.verify import verify

# Where each public name lives. It is imported when it is first used: `import ringkas` costs milliseconds, and
# a device that only encodes never sees a converter.
_HOMES = {
    "Artifact": "ringkas.artifact",
    "Checkpoint": "ringkas.checkpoint",
    "Encoder": "ringkas.runtimes.encoder",
    "ParityReport": "ringkas.runtimes.parity.judge",
    "RingkasError": "ringkas.errors",
    "Wish": "ringkas.export.search.search",
    "build": "ringkas.export.build",
    "build_all": "ringkas.export.build",
    "bundle": "ringkas.export.bundle",
    "load": "ringkas.runtimes.encoder",
    "load_reference_encoder": "ringkas.runtimes.encoder",
    "open_artifact": "ringkas.artifact",
    "open_checkpoint": "ringkas.checkpoint",
    "search": "ringkas.export.search.search",
    "verify": "ringkas.runtimes.parity.verify",
}

__all__ = [
    "Artifact",
    "Checkpoint",
    "Encoder",
    "ParityReport",
    "RingkasError",
    "Wish",
    "__version__",
    "build",
    "build_all",
    "bundle",
    "load",
    "load_reference_encoder",
    "open_artifact",
    "open_checkpoint",
    "search",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "bulk":
        return import_module("ringkas.runtimes.bulk")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ringkas' has no attribute {name!r}")
