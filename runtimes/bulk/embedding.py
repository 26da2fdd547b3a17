"""The run on one machine: read and tokenise ahead in a thread, encode, write, a shard at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import IO, Any, Literal

from ringkas.artifact import MANIFEST_FILE, Artifact
from ringkas.errors import TextError
from ringkas.files import sha256, staged_file, write_bytes
from ringkas.runtimes.bulk.rows import BadRow, Window, windows
from ringkas.runtimes.bulk.shards import (
    Identity,
    ShardFolder,
    ShardRecord,
    Totals,
    open_run,
    skipped_lines,
)
from ringkas.runtimes.bulk.sources import Source
from ringkas.runtimes.bulk.writers import Kind, Layout, Precision, Writer, open_writer
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.long_texts import LongTexts, RowMaker, Rows, encode_rows
from ringkas.runtimes.vectors import truncate
from ringkas.version import __version__

SHARD_ROWS = 50_000
_AHEAD = 2  # windows that wait, tokenised, for the engine


@dataclass(frozen=True)
class Job:
    """What to do with each row.

    Args:
        prompt: its name; None takes the checkpoint's default, the empty string none.
        dimensions: keep only the first so many.
        precision: of the vectors in the file.
        long_texts: what becomes of texts over the model's limit.
        on_error: `raise` at the first bad row, or `skip` it to the side file.
        shard_rows: rows of the input in a shard; None puts all in one file.
    """

    prompt: str | None = None
    dimensions: int | None = None
    precision: Precision = "float32"
    long_texts: LongTexts = "truncate"
    on_error: Literal["raise", "skip"] = "raise"
    shard_rows: int | None = SHARD_ROWS


@dataclass(frozen=True)
class Prepared:
    """A window and the token ids of its texts."""

    window: Window
    rows: Rows


@dataclass(frozen=True)
class Watch:
    """Told what has been done: `Totals` so far and the share of the input that has been read."""

    tell: Callable[[Totals, float], None] = lambda totals, fraction: None


def artifact_identity(artifact: Artifact) -> dict[str, Any]:
    """What the vectors came from, for the run's record and the files' metadata."""
    manifest = artifact.manifest
    return {
        "name": manifest.name,
        "target": manifest.target,
        "model": manifest.source.model,
        "revision": manifest.source.revision,
        "manifest_sha256": sha256(artifact.path / MANIFEST_FILE),
    }


def run_identity(artifact: Artifact, source: Source, job: Job, kind: Kind) -> Identity:
    """What a run belongs to."""
    options = asdict(job) | {"format": kind, "columns": asdict(source.columns), "max_bytes": source.max_bytes}
    # A tuple would come back as a list, and differ.
    options["columns"]["carried"] = list(source.columns.carried)
    return Identity(artifact_identity(artifact), source.identity(), options)


def layout_of(artifact: Artifact, source: Source, job: Job, kind: Kind) -> Layout:
    """What the files of a run are.

    Raises:
        TargetError: they cannot hold what is asked for.
        TextError: a column is not there.
    """
    metadata = {
        "artifact": artifact_identity(artifact),
        "prompt": job.prompt if job.prompt is not None else artifact.manifest.encoding.default_prompt_name,
        "precision": job.precision,
        "normalized": artifact.manifest.encoding.normalize,
        "long_texts": job.long_texts,
        "ringkas": __version__,
    }
    dimension = job.dimensions or artifact.manifest.encoding.dimension
    layout = Layout(kind, dimension, job.precision, None, metadata)
    layout.check()
    layout = replace(layout, schema=source.schema())
    layout.check()
    return layout


@dataclass
class Run:
    """An encoder at work on windows: what both a folder of shards and a single file are written by."""

    encoder: Encoder
    job: Job
    layout: Layout
    watch: Watch = field(default_factory=Watch)
    totals: Totals = field(default_factory=Totals)

    def prepared(self, found: Iterable[Window]) -> Iterator[Prepared]:
        """Windows with their token ids, made ahead of their use in a thread of their own.

        Raises:
            TextError: a bad row where none may be skipped, after the windows before it.
        """
        maker = RowMaker(self.encoder, self.job.prompt, self.job.long_texts)
        self.encoder.engine.prepare_many()  # a run that is gone on with goes the same way as a whole one

        def prepare() -> Iterator[Prepared]:
            for window in found:
                if window.bad and self.job.on_error == "raise":
                    raise _bad_row(window.bad[0])
                yield Prepared(window, maker.rows(window.texts))

        return ahead(prepare(), _AHEAD)

    def write_shard(self, folder: ShardFolder, shard: int, group: Iterable[Prepared]) -> None:
        """One shard, whole or not at all."""
        first, before, bad = shard * (self.job.shard_rows or 0), self.totals, list[BadRow]()
        with folder.writing(shard) as stream:
            writer = open_writer(stream, self.layout)
            for one in group:
                self.write(writer, one)
                bad += one.window.bad
            writer.finish()
        now = self.totals
        record = ShardRecord(
            shard=shard,
            first_row=first,
            rows=now.rows - before.rows,
            vectors=now.vectors - before.vectors,
            tokens=now.tokens - before.tokens,
            long=now.long - before.long,
            skipped=now.skipped - before.skipped,
            file=folder.file(shard).name,
            bytes=folder.file(shard).stat().st_size,
        )
        folder.commit(record, bad)

    def write(self, writer: Writer, one: Prepared) -> None:
        """The vectors of one window."""
        window, rows = one.window, one.rows
        vectors = encode_rows(self.encoder, rows)
        if self.job.dimensions is not None:
            vectors = truncate(vectors, self.job.dimensions, normalize=self.encoder.spec.normalize)
        writer.write(vectors, window.rows, window.carried)
        self.totals = self.totals.plus(
            Totals(rows.texts + len(window.bad), rows.texts, rows.tokens, rows.long, len(window.bad))
        )
        self.watch.tell(self.totals, window.fraction)


def embed_folder(run: Run, source: Source, output: Path, identity: Identity, *, overwrite: bool) -> Totals:
    """Writes shards into a folder; goes on where an earlier run of the same identity stopped.

    Raises:
        RingkasError: a bad row, a folder of something else, or what cannot be read or written.
    """
    with open_run(
        output, run.layout.kind, identity, resumable=source.resumable, overwrite=overwrite
    ) as folder:
        done = folder.records()
        for record in done.values():
            run.totals = run.totals.plus(record)
        shard_rows = run.job.shard_rows or SHARD_ROWS
        first = next(number for number in range(len(done) + 1) if number not in done)
        found = windows(source.blocks(first * shard_rows), shard_rows, source.max_bytes)
        pending = (window for window in found if window.shard not in done)
        for shard, group in groupby(run.prepared(pending), key=lambda one: one.window.shard):
            run.write_shard(folder, shard, group)
        run.watch.tell(run.totals, 1.0)
        return run.totals


def embed_file(run: Run, source: Source, output: Path | None) -> Totals:
    """Writes one file, whole or not at all; None writes JSON lines on stdout as they come."""
    bad: list[BadRow] = []
    with one_file(output) as stream:
        writer = open_writer(stream, run.layout)
        for one in run.prepared(windows(source.blocks(), None, source.max_bytes)):
            run.write(writer, one)
            bad += one.window.bad
        writer.finish()
    if output is not None and bad:
        write_bytes(skipped_file(output), skipped_lines(bad))
    run.watch.tell(run.totals, 1.0)
    return run.totals


def skipped_file(output: Path) -> Path:
    """Where the skipped rows of a single file of vectors are told."""
    return output.with_name(f"{output.name}.skipped.jsonl")


@contextmanager
def one_file(place: Path | None) -> Iterator[IO[bytes]]:
    """A stream for a file that appears when it is whole; None is stdout."""
    if place is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with staged_file(place) as partial, partial.open("wb") as stream:
            yield stream
    except OSError as error:
        raise TextError(
            f"cannot write {place}", why=error.strerror or str(error), fix="Nothing was left half-written"
        ) from error


def _bad_row(bad: BadRow) -> TextError:
    return TextError(
        f"row {bad.row}, counted from 0, has no text to encode",
        why=bad.reason,
        fix="Mend it, or leave such rows out, each with its reason in a file: --on-error skip",
    )


_END = object()


def ahead(items: Iterator[Prepared], count: int) -> Iterator[Prepared]:
    """The items, made in a thread of their own, at most `count` of them before they are asked for."""
    waiting: Queue[Any] = Queue(count)
    stopped = Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(error)

    thread = Thread(target=make, name="ringkas-tokenise", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
