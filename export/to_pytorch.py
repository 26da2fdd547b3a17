"""`pytorch-fp32`: the plain sentence-transformers folder, its weights in one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ringkas.artifact import Artifact, Manifest
from ringkas.checkpoint import WEIGHTS, Checkpoint
from ringkas.export import finish
from ringkas.export.finish import Job, Written
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe
from ringkas.targets import Target

if TYPE_CHECKING:
    from ringkas.export.build import BuildOptions

_CARD = """```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(PATH).encode(["how to fix a bicycle tyre"])
```"""


def check(checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
    """Every family can be written."""


def write(job: Job) -> Written:
    return Written(write_weights(job.checkpoint, job.folder), {"weights": job.target.precision})


def judge(job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
    """By the reference itself, on the weights that were written."""
    return finish.judge_artifact(artifact, probe, job.progress)


def card(manifest: Manifest, folder: Path) -> str:
    return _CARD


def write_weights(checkpoint: Checkpoint, folder: Path) -> str:
    """Writes the encoder's weights in float32 under transformers' own names and returns the file's name.

    What plays no part in an embedding (a pooler, a language-modelling head) is left out.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from ringkas.runtimes.reference import load_reference

    encoder = load_reference(checkpoint).encoder
    weights = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    try:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, most likely; the caller knows an OSError
        raise OSError(str(error)) from error
    return WEIGHTS
