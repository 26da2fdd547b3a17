"""Ray, two workers on this machine, for real: the same shards, and a worker killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ringkas.artifact import Artifact
from ringkas.cli import cli

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ringkas[ray]'")

# A busy machine takes its time to start what Ray consists of.
QUIETLY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}
SCRIPT = """
import sys, ray, ray.data, pyarrow as pa, numpy as np
import ringkas
from ringkas.runtimes.bulk.on_ray import Cluster
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
dataset = ray.data.read_parquet(sys.argv[1])
made = ringkas.bulk.embed_dataset(dataset, sys.argv[2], cluster=Cluster(workers=2))
rows = sorted(made.take_all(), key=lambda row: int(row["id"]))
np.save(sys.argv[3], np.array([row["embedding"] for row in rows], dtype=np.float32))
"""


@pytest.fixture
def parquet(sentences: list[str], tmp_path: Path) -> Path:
    texts = [f"{text} {n}" for n, text in enumerate(sentences * 8)]
    table = pa.table({"text": texts, "id": [str(n) for n in range(len(texts))]})
    pq.write_table(table, tmp_path / "texts.parquet", row_group_size=100)
    return tmp_path / "texts.parquet"


def marked(mark: str) -> list[int]:
    """The actors' processes, by a variable that they inherit."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            if b"MapWorker" in name and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_worker_killed_in_the_middle_loses_nothing(
    small_artifact: Artifact, parquet: Path, tmp_path: Path
) -> None:
    common = ["embed", str(small_artifact.path), "--input", str(parquet), "--id-column", "id"]
    common += ["--shard-rows", "200", "--threads", "1", "--output"]
    alone = CliRunner().invoke(cli, [*common, str(tmp_path / "alone")])
    assert alone.exit_code == 0, alone.stderr
    out, mark = tmp_path / "ray", f"ringkas-test-{os.getpid()}"
    command = [sys.executable, "-m", "ringkas", *common, str(out), "--ray", "local", "--ray-workers", "2"]
    environment = {**os.environ, **QUIETLY, "RINGKAS_TEST_MARK": mark}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    killed = False
    until = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < until:
        if not killed and list(out.glob("part-*")):
            for pid in marked(mark)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed = True
        time.sleep(0.005)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert killed
    names = sorted(file.name for file in (tmp_path / "alone").glob("part-*"))
    assert sorted(file.name for file in out.glob("part-*")) == names
    for name in names:
        own, other = (pq.read_table(place / name) for place in (out, tmp_path / "alone"))
        assert own.column("id").equals(other.column("id"))
        vectors = [table.column("embedding").combine_chunks().values.to_numpy() for table in (own, other)]
        np.testing.assert_allclose(*vectors, atol=1e-6)
    assert f"{pq.read_table(parquet).num_rows} vectors" in said


@pytest.mark.full  # a second cluster to start: the one above is the gate's
def test_a_dataset_gets_a_column(small_artifact: Artifact, parquet: Path, tmp_path: Path) -> None:
    import ringkas

    command = [sys.executable, "-c", SCRIPT, str(parquet), str(small_artifact.path), str(tmp_path / "v.npy")]
    environment = {**os.environ, **QUIETLY}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with ringkas.load(small_artifact, threads=1) as encoder:
        expected = encoder.encode(pq.read_table(parquet).column("text").to_pylist())
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray", "local", "--output", "{out}.npy"], "Ray writes folders of Parquet"),
        (["--ray", "local", "--output", "{out}", "--input", "{text}"], "on Ray the input must be Parquet"),
        (["--ray-workers", "2", "--output", "{out}"], "--ray-workers goes with --ray"),
    ],
)
def test_what_ray_cannot_is_refused(
    options: list[str], said: str, small_artifact: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    stated = [one.format(out=tmp_path / "out", text=tmp_path / "a.txt") for one in options]
    result = CliRunner().invoke(cli, ["embed", str(small_artifact.path), *stated], prog_name="ringkas")
    assert result.exit_code == 2
    assert said in result.stderr
