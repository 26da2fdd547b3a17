"""`pytorch-fp32`: the plain sentence-transformers folder, its weights in one safetensors file."""

from __future__ import annotations

from pathlib import Path

from ringkas.checkpoint import WEIGHTS, Checkpoint


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
