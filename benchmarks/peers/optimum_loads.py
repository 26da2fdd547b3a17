"""Proves that Optimum and sentence-transformers' ONNX backend load our artifacts, with the same vectors.

    python benchmarks/peers/optimum_loads.py [--environment .venvs/optimum] [--json FILE]

Optimum's ONNX side needs transformers below 4.58, so it gets an environment of its own, made on first use.
Builds the demo artifact here, loads it there in both ways, and compares the vectors with this side's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ringkas import build, load, texts

# The newest set that installs together; torch first, so that it stays the build that is there.
REQUIREMENTS = (
    "torch==2.13.0",
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "transformers==4.57.6",
    "sentence-transformers==5.2.3",
    "onnxruntime",
)
SAME = 1e-5

# Runs in the peer's environment: (artifact folder, JSON file of texts) to two arrays.
CLIENT = """
import json, sys
import numpy as np
from optimum.onnxruntime import ORTModelForFeatureExtraction
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

folder, texts = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
vectors = SentenceTransformer(folder, backend="onnx", device="cpu").encode(texts)
model = ORTModelForFeatureExtraction.from_pretrained(folder, subfolder="onnx", file_name="model.onnx")
tokenizer = AutoTokenizer.from_pretrained(folder)
rows = []
for text in texts:
    inputs = tokenizer(text, return_tensors="np", truncation=True)
    hidden = model(**inputs).last_hidden_state[0]
    pooled = hidden.mean(axis=0)
    rows.append(pooled / np.linalg.norm(pooled))
np.savez(sys.argv[3], sentence_transformers=vectors, optimum=np.stack(rows))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, default=Path(".venvs/optimum"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = make_environment(options.environment)
    sample = list(texts.probe(["en"])["en"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = build("demo", "onnx-fp32", folder)
        with load(artifact) as encoder:
            ours = encoder.encode(sample)
        (folder / "texts.json").write_text(json.dumps(sample), encoding="utf-8")
        command = [python, "-c", CLIENT, artifact.path, folder / "texts.json", folder / "vectors.npz"]
        subprocess.run(command, check=True)
        with np.load(folder / "vectors.npz") as found:
            result = {client: float(np.abs(found[client] - ours).max()) for client in found.files}
    print(json.dumps({"largest_difference": result, "texts": len(sample)}, indent=1))
    if options.json:
        document = {"largest_difference": result, "texts": len(sample), "requirements": REQUIREMENTS}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if max(result.values()) > SAME:
        sys.exit(f"the vectors differ by more than {SAME}")


def make_environment(folder: Path) -> Path:
    """The interpreter of the peer's environment, installed on first use."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for requirements in (REQUIREMENTS[:1], REQUIREMENTS):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        (folder / "installed").touch()
    return python


if __name__ == "__main__":
    main()
