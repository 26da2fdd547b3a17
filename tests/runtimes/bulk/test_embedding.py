"""Shards, resume, order, policies: against the facade, and killed for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from ringkas.artifact import Artifact
from ringkas.cli import cli
from ringkas.errors import RingkasError, TextError
from ringkas.runtimes.bulk import rows
from ringkas.runtimes.bulk.embedding import Job, Run, embed_folder, layout_of, run_identity
from ringkas.runtimes.bulk.shards import Totals
from ringkas.runtimes.bulk.sources import Columns, Source
from ringkas.runtimes.encoder import Encoder


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WINDOW_ROWS", 16)


@pytest.fixture
def parquet(sentences: list[str], tmp_path: Path) -> Path:
    file = tmp_path / "texts.parquet"
    ids = [f"id-{n}" for n in range(len(sentences))]
    pq.write_table(pa.table({"text": sentences, "id": ids}), file, row_group_size=37)
    return file


@pytest.fixture
def source(parquet: Path) -> Source:
    return Source((parquet,), columns=Columns("text", ("id",)))


Embed = Callable[..., Totals]
FIFTY = Job(shard_rows=50)


@pytest.fixture
def embed(small_artifact: Artifact, small_encoder: Encoder) -> Embed:
    def run(source: Source, output: Path, job: Job = FIFTY, **options: bool) -> Totals:
        layout = layout_of(small_artifact, source, job, "parquet")
        identity = run_identity(small_artifact, source, job, "parquet")
        overwrite = options.get("overwrite", False)
        return embed_folder(Run(small_encoder, job, layout), source, output, identity, overwrite=overwrite)

    return run


def ringkas(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], input=stdin, prog_name="ringkas")


def read(output: Path) -> tuple[list[str], np.ndarray]:
    table = pa.concat_tables(pq.read_table(file) for file in sorted(output.glob("part-*.parquet")))
    vectors = table.column("embedding").combine_chunks()
    return table.column("id").to_pylist(), vectors.values.to_numpy().reshape(len(vectors), -1)


def test_shards_hold_what_the_facade_gives(
    embed: Embed, source: Source, small_encoder: Encoder, sentences: list[str], tmp_path: Path
) -> None:
    totals = embed(source, tmp_path / "out")
    ids, vectors = read(tmp_path / "out")
    assert ids == [f"id-{n}" for n in range(len(sentences))]
    expected = small_encoder.encode(sentences)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert np.abs(np.roll(expected, 1, axis=0) - vectors).max() > 0.1  # another order would be seen
    assert (totals.rows, totals.vectors, totals.skipped) == (len(sentences), len(sentences), 0)
    metadata = json.loads(pq.read_schema(tmp_path / "out" / "part-00000.parquet").metadata[b"ringkas"])
    assert metadata["artifact"]["target"] == "onnx-fp32"
    assert pq.read_table(tmp_path / "out").num_rows == len(sentences)  # our own files do not disturb readers


def test_a_run_that_stopped_goes_on_to_the_same_bits(embed: Embed, source: Source, tmp_path: Path) -> None:
    embed(source, tmp_path / "whole")
    embed(source, tmp_path / "parted")
    ids, vectors = read(tmp_path / "whole")
    for gone in ((0,), (1, 2), (len(ids) // 50,)):
        for shard in gone:
            (tmp_path / "parted" / f"part-{shard:05d}.parquet").unlink()
            (tmp_path / "parted" / "_ringkas" / f"part-{shard:05d}.json").unlink()
        totals = embed(source, tmp_path / "parted")
        assert totals.vectors == len(ids)
        again = read(tmp_path / "parted")
        assert again[0] == ids
        assert np.array_equal(again[1], vectors)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "parted").glob("part-*")}
    assert embed(source, tmp_path / "parted").vectors == len(ids)  # nothing left to do
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_another_run_is_refused(
    embed: Embed, source: Source, parquet: Path, sentences: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    embed(source, out)
    for job, said in (
        (Job(shard_rows=49), "shard_rows was 50 and is 49"),
        (Job(shard_rows=50, prompt="query"), "prompt was None and is 'query'"),
        (Job(shard_rows=50, precision="int8"), "precision was 'float32' and is 'int8'"),
    ):
        with pytest.raises(TextError, match=said):
            embed(source, out, job)
    pq.write_table(pa.table({"text": [*sentences[:-1], "other"], "id": ["x"] * len(sentences)}), parquet)
    with pytest.raises(TextError, match="belongs to another input"):
        embed(source, out)
    assert embed(source, out, overwrite=True).vectors == len(sentences)
    with (out / "part-00000.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(TextError, match="missing or was altered"):
        embed(source, out)


def test_a_folder_of_something_else_is_refused(embed: Embed, source: Source, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(TextError, match="holds other files"):
            embed(source, tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("precision", ["float16", "int8", "ubinary"])
def test_precisions_are_near(precision: str, embed: Embed, source: Source, tmp_path: Path) -> None:
    embed(source, tmp_path / "wide")
    embed(source, tmp_path / "narrow", Job(shard_rows=50, precision=precision))  # type: ignore[arg-type]
    _, wide = read(tmp_path / "wide")
    _, narrow = read(tmp_path / "narrow")
    if precision == "ubinary":
        assert np.array_equal(np.unpackbits(narrow, axis=1)[:, : wide.shape[1]], wide > 0)
        return
    if precision == "int8":
        table = pa.concat_tables(
            pq.read_table(file) for file in sorted((tmp_path / "narrow").glob("part-*.parquet"))
        )
        narrow = narrow * table.column("embedding_scale").to_numpy()[:, None]
    assert np.abs(narrow - wide).max() < (0.005 if precision == "int8" else 0.001)
    assert np.abs(narrow - wide).max() > 0


@pytest.mark.parametrize("format", ["parquet", "npy", "jsonl"])
def test_formats_of_a_folder_and_of_one_file(
    format: str, small_artifact: Artifact, sentences: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences), "utf-8")
    common = ["embed", small_artifact.path, "--input", file, "--threads", 1]
    folder, single = tmp_path / "folder", tmp_path / f"one.{format}"
    done = ringkas(*common, "--output", folder, "--format", format, "--shard-rows", len(sentences))
    assert done.exit_code == 0, done.stderr
    done = ringkas(*common, "--output", single)
    assert done.exit_code == 0, done.stderr
    assert (folder / f"part-00000.{format}").read_bytes() == single.read_bytes()


def test_bad_rows_end_the_run_or_go_to_a_file(small_artifact: Artifact, tmp_path: Path) -> None:
    file, out = tmp_path / "texts.jsonl", tmp_path / "out"
    file.write_text(
        '{"text": "a"}\n{"text": null}\n{"text": "\\ud83d"}\n{"text": 1}\nx\n{"text": "long text"}\n'
    )
    common = ["embed", small_artifact.path, "--input", file, "--shard-rows", 4, "--max-bytes", 5]
    refused = ringkas(*common, "--output", out)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "row 1, counted from 0, has no text to encode: the text is null" in refused.stderr
    assert not list(out.glob("part-*"))
    done = ringkas(*common, "--output", tmp_path / "skipped", "--on-error", "skip")
    assert done.exit_code == 0, done.stderr
    assert "1 vectors" in done.stderr
    assert "5 rows were skipped" in done.stderr
    lines = [
        json.loads(line)
        for side in sorted((tmp_path / "skipped" / "_skipped").glob("*.jsonl"))
        for line in side.read_text().splitlines()
    ]
    assert [line["row"] for line in lines] == [1, 2, 3, 4, 5]
    assert "lone surrogate" in lines[1]["reason"]
    done = ringkas(*common[:4], "--output", tmp_path / "one.npy", "--on-error", "skip", "--max-bytes", 5)
    assert done.exit_code == 0, done.stderr
    assert len((tmp_path / "one.npy.skipped.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "{out}.npy", "--shard-rows", "5"], "--shard-rows is for a folder"),
        (["--output", "{out}.npy", "--overwrite"], "--overwrite is for a folder"),
        (["--output", "{out}.npy", "--precision", "int8"], "npy does not hold int8"),
        (["--output", "{out}.jsonl", "--precision", "float16"], "jsonl does not hold float16"),
        (["--on-error", "skip"], "--on-error skip writes the reasons to a file"),
        (["--output", "{out}.txt"], "ends in none of"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    options: list[str], said: str, small_artifact: Artifact, tmp_path: Path
) -> None:
    stated = [one.format(out=tmp_path / "x") for one in options]
    result = ringkas("embed", small_artifact.path, *stated, stdin=b"a\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not list(tmp_path.glob("x*"))


def test_standard_input_is_not_resumed(small_artifact: Artifact, tmp_path: Path) -> None:
    command = ["embed", small_artifact.path, "--output", tmp_path / "out"]
    assert ringkas(*command, stdin=b"a\nb\n").exit_code == 0
    again = ringkas(*command, stdin=b"a\nb\n")
    assert again.exit_code == 2
    assert "standard input cannot be read again" in again.stderr
    assert ringkas(*command, "--overwrite", stdin=b"a\nb\n").exit_code == 0


def test_a_folder_may_be_named_like_a_file(small_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").mkdir()
    done = ringkas("embed", small_artifact.path, "--output", tmp_path / "out.parquet", stdin=b"a\nb\n")
    assert done.exit_code == 0, done.stderr
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2


def test_no_rows_give_one_empty_shard(small_artifact: Artifact, tmp_path: Path) -> None:
    command = ["embed", small_artifact.path, "--output", tmp_path / "out"]
    assert ringkas(*command, stdin=b"").exit_code == 0
    assert pq.read_table(tmp_path / "out").num_rows == 0


@pytest.mark.parametrize("policy", ["truncate", "window", "error"])
def test_long_texts(policy: str, small_artifact: Artifact, small_encoder: Encoder, tmp_path: Path) -> None:
    long = "password reset " * 100
    file = tmp_path / "texts.txt"
    file.write_text(f"short\n{long}\n")
    result = ringkas(
        "embed", small_artifact.path, "--input", file, "--output", tmp_path / "v.npy", "--long-texts", policy
    )
    if policy == "error":
        assert result.exit_code == 2
        assert "more than the model's 64 tokens" in result.stderr
        assert not (tmp_path / "v.npy").exists()
        return
    assert result.exit_code == 0, result.stderr
    assert "1 texts over the limit were" in result.stderr
    found, facade = np.load(tmp_path / "v.npy"), small_encoder.encode(["short", long])
    np.testing.assert_allclose(found[0], facade[0], atol=1e-6)
    same = np.allclose(found[1], facade[1], atol=1e-6)
    assert same is (policy == "truncate")
    assert np.linalg.norm(found[1]) == pytest.approx(1, abs=1e-5)


def test_killed_at_any_moment_and_resumed(
    small_artifact: Artifact, sentences: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(text.replace("\n", " ") for text in sentences * 40), "utf-8")
    command = [sys.executable, "-m", "ringkas", "embed", str(small_artifact.path), "--input", str(file)]
    command += ["--threads", "1", "--shard-rows", "500", "--output"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    killed, out = 0, tmp_path / "killed"
    for attempt in range(4):
        process = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL)
        wanted, until = 2 * attempt + 1, time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if len(list(out.glob("part-*"))) >= wanted:
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.002)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    names = sorted(one.name for one in (tmp_path / "whole").glob("part-*"))
    assert sorted(one.name for one in out.iterdir() if one.name[0] != "_") == names
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_processes_do_not_share_a_folder(embed: Embed, source: Source, tmp_path: Path) -> None:
    import fcntl

    embed(source, tmp_path / "out")
    with (tmp_path / "out" / "_ringkas" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TextError, match="another process writes"):
            embed(source, tmp_path / "out")


def test_what_a_file_cannot_hold_is_refused(small_artifact: Artifact, source: Source) -> None:
    with pytest.raises(RingkasError, match="npy holds vectors and no columns"):
        layout_of(small_artifact, source, Job(), "npy")
    clash = replace(source, columns=Columns("text", ("text",)))
    layout_of(small_artifact, clash, Job(), "parquet")  # the text itself may be carried
