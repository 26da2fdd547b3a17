"""The wheel holds the whole tree; the bare install is light; nothing heavy is imported before it is used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringkas.texts import LANGUAGES

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("export", "quantize", "runtimes")
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "sentence_transformers", "huggingface_hub")
# The modules of the runtimes that are PyTorch itself.
NEEDS_TORCH = (
    "ringkas.runtimes.reference",
    "ringkas.runtimes.streamed",
    "ringkas.runtimes.engines.pytorch_packed",
)
# Those of the server that are made of its extra; runtimes/serve/run.py asks for it before it imports them.
NEEDS_SERVE = ("ringkas.runtimes.serve.app", "ringkas.runtimes.serve.metrics")
# Of the converters, what the command line imports before it can say which extra is missing.
ENTRANCES = ("ringkas.export.build", "ringkas.export.to_tensorrt.rebuild", "ringkas.export.vocabulary.prune")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sdist, wheel), the wheel made from the sdist as an installer would."""
    out = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and its own dependencies only."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", built[1]], check=True, capture_output=True)
    return python


def source_files() -> Iterator[str]:
    for file in sorted((REPOSITORY / "src" / "ringkas").rglob("*")):
        if file.is_file() and not any(part in (*ROOMS, "__pycache__") for part in file.parts[-3:-1]):
            yield "ringkas/" + file.relative_to(REPOSITORY / "src" / "ringkas").as_posix()
    for room in ROOMS:
        for file in sorted((REPOSITORY / room).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"ringkas/{file.relative_to(REPOSITORY).as_posix()}"


def test_wheel_holds_the_source_tree(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == set(source_files())
    assert {f"ringkas/data/retrieval/{language}.jsonl" for language in LANGUAGES} <= names


def test_wheel_is_the_same_from_another_place_and_time(tmp_path: Path) -> None:
    apart = (
        "tests",
        "docs",
        "benchmarks",
        ".git",
        ".venv",
        ".peers",
        "dist",
        "build",
        "__pycache__",
        ".*_cache",
    )
    ignored = shutil.ignore_patterns(*apart)
    wheels = []
    for number, umask in enumerate((0o022, 0o077)):
        tree = tmp_path / f"place-{number}" / "tree"
        shutil.copytree(REPOSITORY, tree, symlinks=True, ignore=ignored)
        for file in tree.rglob("*.py"):
            os.utime(file, (10**9 + number, 10**9 + number), follow_symlinks=False)
        command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tree.parent)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run([*command, str(tree)], check=True, capture_output=True, env=environment, umask=umask)
        wheels.append(next(tree.parent.glob("*.whl")).read_bytes())
    assert wheels[0] == wheels[1]


def test_sdist_holds_tests_and_benchmarks(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    for needed in ("tests/conftest.py", "Makefile", "README.md", "export/build.py", "src/ringkas/cli.py"):
        assert needed in names


def test_import_is_quick_and_light(bare: Path) -> None:
    code = (
        "import sys, time; before = time.perf_counter(); import ringkas\n"
        "print(time.perf_counter() - before, *sys.modules)"
    )
    took, *modules = subprocess.run(
        [bare, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert float(took) < 0.3
    assert not {*HEAVY, "numpy", "tokenizers"} & set(modules)


def test_ground_and_runtimes_import_in_the_bare_environment(bare: Path) -> None:
    names = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in source_files()
        if name.endswith(".py") and "__main__" not in name
    ]
    rooms = ("ringkas.export", "ringkas.quantize", *NEEDS_TORCH, *NEEDS_SERVE)
    names = [name for name in names if not name.startswith(rooms)] + list(ENTRANCES)
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([bare, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["build", "demo", "--target", "onnx-fp32", "--out", "dist"], "export,onnx"),
        (["prune", "demo", "--languages", "en", "--out", "dist", "--no-witness"], "demo"),
        (["build", "org/name", "--target", "pytorch-fp32", "--out", "dist"], "export"),
    ],
)
def test_missing_extra_is_named_with_its_command(
    bare: Path, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [bare, "-m", "ringkas", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.strip().endswith(f"pip install 'ringkas[{extra}]'.")
    assert list(tmp_path.iterdir()) == []


def test_artifact_without_its_engine_says_what_to_install(bare: Path, demo_artifacts: Path) -> None:
    for target, extra in (("onnx-fp32", "onnx"), ("pytorch-fp32", "pytorch")):
        command = [bare, "-m", "ringkas", "verify", str(demo_artifacts / target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"pip install 'ringkas[{extra}]'" in done.stderr.splitlines()[-1]


def test_help_works_in_the_bare_environment(bare: Path) -> None:
    names = ("build", "rebuild", "verify", "embed", "serve", "bench", "inspect", "doctor")
    for command in ([], *([name] for name in names)):
        done = subprocess.run([bare, "-m", "ringkas", *command, "--help"], check=True, capture_output=True)
        assert b"Usage:" in done.stdout
    assert (
        b"pip install"
        in subprocess.run([bare, "-m", "ringkas", "doctor"], check=True, capture_output=True).stdout
    )


def test_help_works_with_the_oldest_click(bare: Path, tmp_path: Path) -> None:
    (oldest,) = re.findall(r'"click>=([0-9.]+),', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    install = [bare, "-m", "pip", "install", "--quiet", "--target", tmp_path, f"click=={oldest}"]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for arguments, code in (["--help"], 0), ([], 2), (["nonsense"], 2):
        done = subprocess.run(
            [bare, "-m", "ringkas", *arguments], capture_output=True, check=False, env=environment
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


def test_imports_go_one_way() -> None:
    """The command line may use every room; a room only those below it; the ground none."""
    below = {"export": ("quantize", "runtimes"), "quantize": ("runtimes",), "runtimes": (), "src/ringkas": ()}
    for room, allowed in below.items():
        for file in (REPOSITORY / room).rglob("*.py"):
            if room == "src/ringkas" and (
                {*ROOMS, "commands"} & set(file.parts) or file.name in ("cli.py", "__init__.py")
            ):
                continue
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "import" in line]
            for other in ROOMS:
                if other in (room, *allowed):
                    continue
                offending = [line for line in lines if f"ringkas.{other}" in line]
                assert not offending, f"{file}: {offending}"
