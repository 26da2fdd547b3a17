"""Our graphs in a browser's runtime: onnxruntime-web's WebAssembly, run by Node, beside ONNX Runtime.

    python benchmarks/peers/onnxruntime_web.py ARTIFACT... [--packages FOLDER] [--json FILE]

Installs onnxruntime-web with npm into FOLDER (a temporary one without it), runs the probe set's English and
mixed texts through both, and compares each with the reference's vectors that the artifact carries.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ringkas import open_artifact
from ringkas.runtimes.engines.onnxruntime_engine import open_session
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.parity.probe import load_probe

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SCRIPT = Path(__file__).with_suffix(".mjs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--packages", type=Path, help="a folder that has, or gets, node_modules")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packages = options.packages or Path(folder)
        install(packages)
        report = {path.name: compare(path, packages) for path in options.artifacts}
    print(json.dumps(report, indent=1))
    if options.json:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from results_file import write_result

        write_result(options.json, {f"{PACKAGE} {VERSION}": report})


def install(folder: Path) -> None:
    """Puts the package and the script side by side."""
    if not (folder / "node_modules" / PACKAGE).is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    shutil.copyfile(SCRIPT, folder / SCRIPT.name)


def compare(path: Path, packages: Path) -> dict[str, Any]:
    """Cosines of both runtimes' vectors with the reference's, and with each other's."""
    artifact = open_artifact(path)
    probe = load_probe(path)
    token_ids = [list(row) for row in probe.token_ids]
    ours = open_session(artifact.model_path, 1)
    native = np.vstack([run(ours, np.array([row], dtype=np.int64)) for row in token_ids])
    web = run_in_node(artifact.model_path, token_ids, packages)
    return {
        "texts": len(token_ids),
        "web_with_reference_min": round(float(cosine(probe.vectors, web).min()), 5),
        "native_with_reference_min": round(float(cosine(probe.vectors, native).min()), 5),
        "web_with_native_min": round(float(cosine(native, web).min()), 5),
    }


def run(session: Any, ids: Any) -> Any:
    return session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def run_in_node(graph: Path, token_ids: list[list[int]], packages: Path) -> Any:
    """The vectors that onnxruntime-web gives: float32 (n, dimension)."""
    rows = packages / "rows.json"
    rows.write_text(json.dumps(token_ids))
    command = ["node", SCRIPT.name, str(graph.resolve()), str(rows.resolve())]
    done = subprocess.run(command, cwd=packages, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"node failed: {done.stderr.strip()[-800:]}")
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float32)


if __name__ == "__main__":
    main()
