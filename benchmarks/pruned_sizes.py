"""Bytes of artifacts of multilingual-e5-small's shape, in full and cut to Korean and English.

    python benchmarks/pruned_sizes.py [--shared FOLDER] [--targets onnx-fp32 onnx-int8] [--out FILE]

Weights are random, so parity says nothing here and is not judged. The vocabulary is the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from prune_speed import make_checkpoint
from results_file import write_result

from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.export.build import BuildOptions
from ringkas.export.finish import Job, writer_of
from ringkas.export.layout import write_layout
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.progress import Progress
from ringkas.targets import target

E5_SMALL = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "vocab_size": 250_037,
    "pad_token_id": 0,
    "hidden_act": "gelu",
}


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="holds xlmr/tokenizer.json.gz")
    parser.add_argument("--targets", nargs="+", default=["onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4"])
    parser.add_argument("--rows", type=int, default=41_348)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "sizes.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_checkpoint(folder / "full", options.shared, E5_SMALL)
        full = open_checkpoint(str(folder / "full"))
        limits = PruneOptions(("ko", "en"), max_tokens=options.rows)
        checkpoints = {"full": full, "ko, en": prune_checkpoint(full, limits, folder / "cut")}
        report = {
            name: {target: bytes_of(checkpoint, target, folder / "out") for target in options.targets}
            for name, checkpoint in checkpoints.items()
        }
    write_result(options.out, report)
    print(json.dumps(report, indent=1))


def bytes_of(checkpoint: Checkpoint, name: str, folder: Path) -> int:
    """All files of one artifact but its card, its manifest and its parity report, some kilobytes."""
    wanted, progress = target(name), Progress()
    with progress.stage(f"writing {name} with {checkpoint.config['vocab_size']} rows"):
        folder.mkdir()
        write_layout(checkpoint, folder)
        job = Job(checkpoint, wanted, folder, BuildOptions(), progress)
        writer_of(wanted).write(job)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shutil.rmtree(folder)
    return size


if __name__ == "__main__":
    main()
