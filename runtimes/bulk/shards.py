"""The folder of a bulk run: shards that are renamed into place when whole, and what is known of each.

    vectors/part-00000.parquet          the vectors
    vectors/_ringkas/run.json           what the run belongs to: input, artifact, options
    vectors/_ringkas/part-00000.json    written last: the shard is whole
    vectors/_skipped/part-00000.jsonl   rows without a vector, each with its reason

Readers of Parquet folders leave out what begins with an underscore.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from ringkas.errors import TextError
from ringkas.files import write_bytes, write_json
from ringkas.runtimes.bulk.rows import BadRow

RUN_FORMAT = 1
_OWN, _SKIPPED = "_ringkas", "_skipped"
_FRESH = "Add --overwrite to start again, or choose another folder"


class Identity(msgspec.Struct, frozen=True):
    """What a run belongs to: only one with the same may go on with it."""

    artifact: dict[str, Any]
    inputs: list[dict[str, Any]]
    options: dict[str, Any]
    format: int = RUN_FORMAT


class ShardRecord(msgspec.Struct, frozen=True):
    """A whole shard. `rows` of the input it holds, `vectors` it has; the rest are `skipped`."""

    shard: int
    first_row: int
    rows: int
    vectors: int
    tokens: int
    long: int
    skipped: int
    file: str
    bytes: int


@dataclass(frozen=True)
class Totals:
    """Of a whole run: rows read, vectors written, tokens encoded, long texts, rows skipped."""

    rows: int = 0
    vectors: int = 0
    tokens: int = 0
    long: int = 0
    skipped: int = 0

    def plus(self, record: ShardRecord | Totals) -> Totals:
        return Totals(
            self.rows + record.rows,
            self.vectors + record.vectors,
            self.tokens + record.tokens,
            self.long + record.long,
            self.skipped + record.skipped,
        )


@dataclass(frozen=True)
class ShardFolder:
    """Where the shards lie; its methods write and read what is known of them."""

    path: Path
    ending: str

    def file(self, shard: int) -> Path:
        return self.path / f"part-{shard:05d}.{self.ending}"

    def record_file(self, shard: int) -> Path:
        return self.path / _OWN / f"part-{shard:05d}.json"

    def records(self) -> dict[int, ShardRecord]:
        """The shards that are whole, by number.

        Raises:
            TextError: a file has not the size that its record states.
        """
        found: dict[int, ShardRecord] = {}
        for file in sorted((self.path / _OWN).glob("part-*.json")):
            try:
                record = msgspec.json.decode(file.read_bytes(), type=ShardRecord)
            except msgspec.DecodeError as error:
                raise TextError(f"{file} is damaged", why=str(error), fix=_FRESH) from None
            data = self.path / record.file
            if not data.is_file() or data.stat().st_size != record.bytes:
                raise TextError(
                    f"{data} is missing or was altered",
                    why=f"it was written with {record.bytes} bytes",
                    fix=f"Remove {file} too, and its shard is encoded again",
                )
            found[record.shard] = record
        return found

    @contextmanager
    def writing(self, shard: int) -> Iterator[IO[bytes]]:
        """A stream for the shard's file; renamed into place, on disk, when the block ends well."""
        place = self.file(shard)
        # On a cluster two workers may be at the same shard, when one was taken for dead.
        partial = place.with_name(f".{place.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with partial.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(place)
        except OSError as error:
            raise TextError(
                f"cannot write {place}",
                why=error.strerror or str(error),
                fix="Make room and run the same command again: it goes on from the last whole shard",
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def commit(self, record: ShardRecord, bad: Sequence[BadRow]) -> None:
        """Records a shard as whole, after its skipped rows."""
        if bad:
            (self.path / _SKIPPED).mkdir(exist_ok=True)
            write_bytes(self.path / _SKIPPED / f"part-{record.shard:05d}.jsonl", skipped_lines(bad))
        write_json(self.record_file(record.shard), record)


def skipped_lines(bad: Sequence[BadRow]) -> bytes:
    """One JSON object a row: its number and why it has no vector."""
    lines = (json.dumps({"row": one.row, "reason": one.reason}) + "\n" for one in bad)
    return "".join(lines).encode()


@contextmanager
def open_run(
    path: Path, ending: str, identity: Identity, *, resumable: bool, overwrite: bool = False
) -> Iterator[ShardFolder]:
    """The folder of a run: a new one, or one of the same identity to go on with. One process at a time.

    Raises:
        TextError: it holds something else, or another process writes there.
    """
    folder = ShardFolder(path, ending)
    run_file = path / _OWN / "run.json"
    try:
        if path.exists() and not path.is_dir():
            raise TextError(f"{path} is no folder", fix="Choose another place")
        foreign = [file.name for file in path.iterdir()] if path.is_dir() else []
        if foreign and not run_file.is_file() and not (path / _OWN).is_dir():
            raise TextError(
                f"{path} holds other files", why=f"such as {min(foreign)}", fix="Choose a folder of its own"
            )
        (path / _OWN).mkdir(parents=True, exist_ok=True)
        with _locked(path / _OWN / "lock", path):
            if overwrite:
                _clear(path)
            if not run_file.is_file():
                write_json(run_file, identity)
            elif not resumable:
                raise TextError(
                    f"{path} holds an earlier run",
                    why="standard input cannot be read again, so a run on it cannot be resumed",
                    fix=_FRESH,
                )
            else:
                _refuse_another(run_file, identity)
            for partial in path.glob(".part-*.partial-*"):
                partial.unlink(missing_ok=True)  # a killed run's
            yield folder
    except OSError as error:
        raise TextError(f"cannot write {error.filename or path}", why=error.strerror or str(error)) from error


def _refuse_another(run_file: Path, identity: Identity) -> None:
    try:
        earlier = msgspec.json.decode(run_file.read_bytes(), type=Identity)
    except msgspec.DecodeError as error:
        raise TextError(f"{run_file} is damaged", why=str(error), fix=_FRESH) from None
    pairs: Mapping[str, tuple[Any, Any]] = {
        "another version's format": (earlier.format, identity.format),
        "another artifact": (earlier.artifact, identity.artifact),
        "other options": (earlier.options, identity.options),
        "another input": (_contents(earlier.inputs), _contents(identity.inputs)),
    }
    for what, (before, now) in pairs.items():
        if before != now:
            raise TextError(
                f"{run_file.parent.parent} belongs to {what}", why=_difference(before, now), fix=_FRESH
            )


def _contents(inputs: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Not the names: the same files may have moved."""
    return [(one["bytes"], one["sha256"]) for one in inputs]


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names[:2])
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"it had {len(before)} files and has {len(now)}"
        changed = next(n for n, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
        return f"file {changed + 1} has other content"
    return f"it was {before!r} and is {now!r}"


@contextmanager
def _locked(file: Path, path: Path) -> Iterator[None]:
    with file.open("wb") as stream:
        try:
            import fcntl
        except ImportError:  # Windows: an open file cannot be removed there, but two runs are not told apart
            yield
            return
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TextError(f"another process writes to {path}", fix="Wait for it, or end it") from None
        yield


def _clear(path: Path) -> None:
    """Removes an earlier run's files, and nothing else."""
    for pattern in ("part-*", f"{_OWN}/part-*", f"{_OWN}/run.json", f"{_SKIPPED}/part-*"):
        for file in path.glob(pattern):
            file.unlink()
