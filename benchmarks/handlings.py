"""What 8 bits cost a model, by how its activations are made integers: the twin beside its reference.

    python benchmarks/handlings.py demo-e5 SIB200/id.txt SIB200/km.txt --each 90
    python benchmarks/handlings.py GEMMA SIB200/en.txt SIB200/ko.txt --each 30 --decoder

The twin computes what ONNX Runtime does, in PyTorch, so a handling is judged without writing a graph. Centred
is the cosine after subtracting the reference's mean vector. Results go into
benchmarks/results/handlings_NAME.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from results_file import write_result

from ringkas import open_checkpoint
from ringkas.family import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FEED_FORWARD_INPUT,
    FEED_FORWARD_OUTPUT,
    ROLE_NAMES,
    Handling,
)
from ringkas.quantize import tables
from ringkas.quantize.calibrate import token_ids
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.quantize.for_onnx.twin import Quantizer
from ringkas.runtimes.batching import batches
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.judge import centred_cosine, cosine
from ringkas.runtimes.reference import Reference
from ringkas.tokens import TextTokenizer, pad

RESULTS = Path(__file__).parent / "results"
_INPUTS = (ATTENTION_INPUT, FEED_FORWARD_INPUT)
_FIXED = {
    ATTENTION_OUTPUT: Handling.STATIC,
    FEED_FORWARD_OUTPUT: Handling.ROW,
    **dict.fromkeys(_INPUTS, Handling.CENTRED),
}
_ATTENTION_BY_ROW = {**_FIXED, ATTENTION_OUTPUT: Handling.ROW}
_ALL_BY_ROW = {**_ATTENTION_BY_ROW, **dict.fromkeys(_INPUTS, Handling.CENTRED_ROW)}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "fixed ranges": {"activations": _FIXED, "outliers": 0},
    "attention outputs by row": {"activations": _ATTENTION_BY_ROW, "outliers": 0},
    "attention outputs by row, 4 channels in float": {"activations": _ATTENTION_BY_ROW, "outliers": 4},
    "all by row": {"activations": _ALL_BY_ROW, "outliers": 0},
    "all by row, 4 channels in float": {"activations": _ALL_BY_ROW, "outliers": 4},
    "all by row, 20 channels in float": {"activations": _ALL_BY_ROW, "outliers": 20},
    "all by row, 4 channels, to nearest": {
        "activations": _ALL_BY_ROW, "outliers": 4, "covariance_width": 1,
    },
    "only the tables": {"floating": ("*",), "activations": _FIXED},
    "inputs float, weights and tables in blocks": {"activations": dict.fromkeys(ROLE_NAMES, Handling.FLOAT)},
}  # fmt: skip


def vectors(reference: Reference, rows: list[list[int]], pad_id: int) -> Vectors:
    """Float32 (texts, dimension)."""
    found: dict[int, Vectors] = {}
    for places in batches([len(row) for row in rows], 2048):
        batch = pad([rows[place] for place in places], pad_id)
        with torch.inference_mode():
            made = reference(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))[1]
        found.update(zip(places, made.numpy(), strict=True))
    return np.stack([found[place] for place in range(len(rows))])


def compared(exact: Vectors, own: Vectors) -> dict[str, float]:
    """Least and mean cosine, and the same after subtracting the mean of `exact`."""
    whole, centred = cosine(exact, own), centred_cosine(exact, own)
    return {
        "cosine_min": float(whole.min()),
        "cosine_mean": float(whole.mean()),
        "centred_min": float(centred.min()),
        "centred_mean": float(centred.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--each", type=int, default=90, help="lines of each file")
    parser.add_argument("--decoder", action="store_true", help="the inputs behind RMSNorm by row, too")
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.model)
    tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
    lines = [line for file in options.texts for line in file.read_text("utf-8").splitlines()[: options.each]]
    rows, base = tokenizer.encode(lines), SCHEMES["onnx-int8"]
    quantizer = Quantizer(checkpoint, token_ids(checkpoint, base.calibration_tokens), base.covariance_width)
    exact = vectors(quantizer.reference, rows, tokenizer.pad_id)
    found = {}
    ways = {name: way for name, way in WAYS.items() if options.decoder or not name.startswith("all")}
    for name, changes in ways.items():
        for divided in (False, True):
            factors = tables.column_factors
            if not divided:
                tables.column_factors = lambda table: None
            try:
                with quantizer.twin(replace(base, **changes)) as twin:
                    own = vectors(twin.reference, rows, tokenizer.pad_id)
            finally:
                tables.column_factors = factors
            label = f"{name}; tables {'by column where it pays' if divided else 'by row alone'}"
            found[label] = compared(exact, own)
            print(label, {key: round(value, 5) for key, value in found[label].items()}, flush=True)
    file = RESULTS / f"handlings_{Path(options.model).name}.json"
    write_result(file, {"texts": len(rows), "ways": found})


if __name__ == "__main__":
    main()
