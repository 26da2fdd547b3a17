"""Proves that Optimum and sentence-transformers' ONNX backend load our artifacts, with the same vectors.

    python benchmarks/peers/optimum_loads.py [--json FILE]

Optimum's ONNX side needs transformers below 4.58, so it has an environment of its own (environments.py).
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
from environments import ENVIRONMENTS, interpreter

from ringkas import build, load, texts

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
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = interpreter("optimum")
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
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from results_file import write_result

        document = {
            "largest_difference": result,
            "texts": len(sample),
            "requirements": ENVIRONMENTS["optimum"].requirements,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_result(options.json, document)
    if max(result.values()) > SAME:
        sys.exit(f"the vectors differ by more than {SAME}")


if __name__ == "__main__":
    main()
