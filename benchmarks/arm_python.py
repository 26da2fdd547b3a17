"""A Python for 64-bit ARM with what an ONNX artifact needs on a device, to be run by qemu-aarch64.

    sudo dpkg --add-architecture arm64 && sudo apt-get update     # Debian 12
    python benchmarks/arm_python.py FOLDER

FOLDER/root holds Debian's own Python 3.11 and its libraries, FOLDER/site the wheels of this project's runtime
install, in the versions that are installed here. Nothing is installed on this machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

_PACKAGES = (
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 libgomp1 "
    "zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libcrypt1"
)
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")
_RUNTIME = ("numpy", "tokenizers", "msgspec", "click", "rich", "xxhash", "psutil", "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder.resolve())


def make(folder: Path) -> None:
    debs, wheels, site = (folder / name for name in ("debs", "wheels", "site"))
    for made in (debs, wheels, site):
        made.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["apt-get", "download", *(f"{name}:arm64" for name in _PACKAGES.split())], cwd=debs, check=True
    )
    for package in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11"]
        + [f"--platform={platform}" for platform in _PLATFORMS]
        + ["--dest", wheels, *(f"{name}=={version(name)}" for name in _RUNTIME)],
        check=True,
    )
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


if __name__ == "__main__":
    main()
