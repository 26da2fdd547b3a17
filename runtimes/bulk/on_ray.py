"""More than one machine: Ray Data hands shards, or batches of a dataset, to actors that hold an encoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import groupby
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from ringkas.artifact import MANIFEST_FILE, Artifact, open_artifact
from ringkas.errors import RingkasError, TextError
from ringkas.extras import require
from ringkas.files import is_inside, sha256
from ringkas.runtimes.bulk.embedding import Job, Run, Watch
from ringkas.runtimes.bulk.rows import problem_of, windows
from ringkas.runtimes.bulk.shards import Identity, ShardFolder, Totals, open_run
from ringkas.runtimes.bulk.sources import Source
from ringkas.runtimes.bulk.writers import EMBEDDING, SCALE, Layout, narrow
from ringkas.runtimes.encoder import Encoder, load
from ringkas.runtimes.long_texts import RowMaker, encode_rows
from ringkas.runtimes.vectors import truncate

if TYPE_CHECKING:
    import pyarrow as pa

LOCAL = "local"


@dataclass(frozen=True)
class Cluster:
    """Where the actors run.

    Args:
        address: of a running cluster, `auto` for the one that Ray finds, `local` to start one here.
        workers: how many actors; None: as many as the processors allow.
        cores: that each takes, and the threads of its engine.
        gpus: that each takes.
        allow_failed: load an artifact whose parity fell short.
    """

    address: str = "auto"
    workers: int | None = None
    cores: int = 1
    gpus: float = 0.0
    allow_failed: bool = False


@dataclass(frozen=True)
class _Shipped:
    """An artifact for an actor: a path that may hold it, and the object that surely does (on a cluster)."""

    path: Path
    digest: str
    variant: str | None
    files: Any = None

    def open(self) -> Artifact:
        manifest = self.path / MANIFEST_FILE
        if manifest.is_file() and sha256(manifest) == self.digest:
            return open_artifact(self.path, self.variant)
        if self.files is None:
            raise RingkasError(f"there is no artifact {self.path} on this worker", fix="Share the folder")
        import ray

        folder = Path(mkdtemp(prefix="ringkas-")) / self.path.name
        for name, data in ray.get(self.files).items():
            if not is_inside(name):
                raise RingkasError(f"the artifact names {name!r}, which leaves its folder")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return open_artifact(folder, self.variant)


def _ship(artifact: Artifact) -> _Shipped:
    ray: Any = import_module("ray")  # its functions have no types
    digest = sha256(artifact.path / MANIFEST_FILE)
    if not ray.is_initialized() or len(ray.nodes()) < 2:
        return _Shipped(artifact.path.absolute(), digest, artifact.variant)
    files = {
        file.relative_to(artifact.path).as_posix(): file.read_bytes()
        for file in artifact.path.rglob("*")
        if file.is_file()
    }
    return _Shipped(artifact.path.absolute(), digest, artifact.variant, ray.put(files))


def embed_on_ray(run: RayRun, identity: Identity, *, overwrite: bool, watch: Watch) -> Totals:
    """As `embed_folder`, by the actors of a cluster, each a shard at a time; the folder must be shared.

    An actor that dies is started again by Ray and its shard is encoded anew. A run that was killed goes on
    with the shards that are missing, with Ray or without.

    Raises:
        RingkasError: the input is not Parquet, or as in `embed_folder`.
    """
    require("ray", "ray")
    count = run.source.rows()
    if count is None:
        raise TextError(
            "on Ray the input must be Parquet",
            why="a worker has to find its rows without reading all before them",
            fix="Convert it, or leave out --ray",
        )
    with open_run(run.output, "parquet", identity, resumable=True, overwrite=overwrite) as folder:
        done, totals = folder.records(), Totals()
        for record in done.values():
            totals = totals.plus(record)
        shard_rows = run.job.shard_rows or 1
        pending = [shard for shard in range(max(1, -(-count // shard_rows))) if shard not in done]
        if not pending:
            return totals
        with _connected(run.cluster):
            for found in _results(run, pending):
                totals = totals.plus(Totals(**found))
                watch.tell(totals, totals.rows / max(1, count))
    return totals


@dataclass(frozen=True)
class RayRun:
    """What every actor is given."""

    artifact: Artifact
    source: Source
    job: Job
    layout: Layout
    output: Path
    cluster: Cluster


def _results(run: RayRun, pending: list[int]) -> Iterator[dict[str, int]]:
    import ray.data

    shipped = _ship(run.artifact)
    source = replace(run.source, files=tuple(file.absolute() for file in run.source.files))
    away = replace(run, source=source, output=run.output.absolute())
    dataset = ray.data.from_items([{"shard": shard} for shard in pending], override_num_blocks=len(pending))
    done = dataset.map_batches(
        _ShardActor,
        fn_constructor_args=(away, shipped),
        batch_size=1,
        **_resources(run.cluster, len(pending)),
    )
    for row in done.iter_rows():
        yield {name: int(row[name]) for name in ("rows", "vectors", "tokens", "long", "skipped")}


class _ShardActor:
    """Holds an encoder; encodes whole shards into the folder."""

    def __init__(self, run: RayRun, shipped: _Shipped) -> None:
        self._run = run
        cluster = run.cluster
        self._encoder = load(shipped.open(), threads=cluster.cores, allow_failed=cluster.allow_failed)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[int]]:
        import numpy as np

        given, totals = self._run, []
        folder = ShardFolder(given.output, "parquet")
        shard_rows = given.job.shard_rows or 1
        for shard in map(int, batch["shard"]):
            run = Run(self._encoder, given.job, given.layout)
            found = windows(given.source.blocks(shard * shard_rows), shard_rows, given.source.max_bytes)
            own = _while_of(found, shard)
            for _, group in groupby(run.prepared(own), key=lambda one: one.window.shard):
                run.write_shard(folder, shard, group)
            totals.append(run.totals)
        names = ("rows", "vectors", "tokens", "long", "skipped")
        return {name: np.array([getattr(one, name) for one in totals]) for name in names}  # type: ignore[misc]


def _while_of(found: Iterator[Any], shard: int) -> Iterator[Any]:
    for window in found:
        if window.shard != shard:
            return
        yield window


def embed_dataset(
    dataset: Any, artifact: str | Path | Artifact, job: Job | None = None, *, text_column: str = "text",
    cluster: Cluster | None = None,
) -> Any:  # fmt: skip
    """A `ray.data.Dataset` with the vectors of its texts in a column `embedding`, beside what it has.

    Lazy, as Ray Data is: nothing runs before it is read or written. int8 adds `embedding_scale`.

    Args:
        dataset: with the texts in `text_column`.
        artifact: its folder; on a cluster it is shipped with the actors.
        job: prompt, dimensions, precision, long texts. Ray cuts the batches, so shards do not apply.
        cluster: how many actors and what each takes; the address is that of Ray's own `init`.

    Raises:
        TextError: (when it runs) a text that cannot be encoded.
    """
    require("ray", "ray")
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    chosen = cluster or Cluster()
    job = job or Job()
    if job.on_error == "skip":
        raise TextError("a dataset cannot skip rows", fix="Filter them out before, with Ray Data's filter")
    return dataset.map_batches(
        _BatchActor,
        fn_constructor_args=(_ship(opened), job, text_column, chosen),
        batch_format="pyarrow",
        batch_size=4096,
        **_resources(chosen, None),
    )


class _BatchActor:
    """Holds an encoder; adds vectors to batches of a dataset."""

    def __init__(self, shipped: _Shipped, job: Job, text_column: str, cluster: Cluster) -> None:
        self._encoder: Encoder = load(
            shipped.open(), threads=cluster.cores, allow_failed=cluster.allow_failed
        )
        self._job, self._column = job, text_column
        self._maker = RowMaker(self._encoder, job.prompt, job.long_texts)

    def __call__(self, batch: pa.Table) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        texts = batch.column(self._column).to_pylist()
        for row, text in enumerate(texts):
            if (reason := problem_of(text)) is not None:
                raise TextError(f"row {row} of a batch has no text to encode", why=reason)
        vectors = encode_rows(self._encoder, self._maker.rows(texts))
        if self._job.dimensions is not None:
            vectors = truncate(vectors, self._job.dimensions, normalize=self._encoder.spec.normalize)
        numbers, scales = narrow(vectors, self._job.precision)
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        made = batch.append_column(EMBEDDING, pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1]))
        return made if scales is None else made.append_column(SCALE, pa.array(scales))


def _resources(cluster: Cluster, most: int | None) -> dict[str, Any]:
    ray: Any = import_module("ray")
    workers = cluster.workers
    if workers is None:
        cores = ray.cluster_resources().get("CPU", 1) if ray.is_initialized() else 1
        workers = max(1, int(cores) // cluster.cores)
    if most is not None:
        workers = min(workers, most)
    found: dict[str, Any] = {"concurrency": workers, "num_cpus": cluster.cores}
    return found | ({"num_gpus": cluster.gpus} if cluster.gpus else {})


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    import ray
    import ray.data

    if ray.is_initialized():
        yield
        return
    local = cluster.address == LOCAL
    cores = cluster.cores * cluster.workers if local and cluster.workers else None
    try:
        ray.init(
            None if local else cluster.address, num_cpus=cores, include_dashboard=False if local else None,
            log_to_driver=False, logging_level=logging.ERROR,
        )  # fmt: skip
    except ConnectionError as error:
        raise RingkasError(
            f"there is no Ray cluster at {cluster.address}",
            why=str(error).splitlines()[0],
            fix="Start one with ray start --head, or use --ray local",
        ) from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()
