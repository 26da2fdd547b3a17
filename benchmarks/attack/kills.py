"""Kills: SIGKILL at any moment of a command, and disks, folders and memory that give out.

Afterwards every earlier artifact is whole or replaced by one that is, nothing half-made can be opened, and
the same command run again ends well and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random

from attack.child import environment, fork
from attack.disk import Disk
from attack.record import DEFECT, HANG, LOST, Batch, Record, Try
from attack.subjects import Subject, make_subjects
from attack.worker import TEXTS
from ringkas.artifact import MANIFEST_FILE

_BATCH = 5
_NOTHING_KEPT = 0.5  # of the tries begin with nothing kept by an earlier run
_PATIENCE = 300.0
_TARGETS = ("pytorch-fp32", "onnx-fp32")
# What a command does to files, as Python's audit hooks name it: a kill falls on one of these.
_EVENTS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.listdir"})
KILLED = "killed, nothing lost"
SAID = "failed in one line, nothing lost"
DONE = "done before"
NO_MEMORY = "out of memory, nothing lost"


@dataclass(frozen=True)
class Command:
    """A command of ringkas on the arena, and what of the arena it makes."""

    name: str
    arguments: Callable[[Arena], list[str]]
    makes: tuple[str, ...]


@dataclass
class Arena:
    """A folder with artifacts of earlier, on which commands run; perhaps on a disk of its own."""

    folder: Path
    checkpoint: Path
    plan: Path | None = None
    disk: Disk | None = None
    undisturbed: dict[str, tuple[float, int]] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> Path:
        """What is kept for the next run (`ringkas cache`)."""
        return self.folder / "cache" / "kept"

    def path(self, name: str) -> str:
        return str(self.folder / name)


def _build(arena: Arena) -> list[str]:
    targets = [argument for target in _TARGETS for argument in ("--target", target)]
    return [
        "build",
        str(arena.checkpoint),
        *targets,
        "--out",
        arena.path("dist"),
        "--overwrite",
        "--no-witness",
    ]


def _prune(arena: Arena) -> list[str]:
    options = ["--languages", "en", "--max-tokens", "5500", "--overwrite", "--no-witness"]
    return ["prune", str(arena.checkpoint), "--out", arena.path("pruned"), *options]


def _search(arena: Arena) -> list[str]:
    wish = ["--max-size", "12MB", "--overwrite", "--no-witness"]
    return ["build", str(arena.checkpoint), *wish, "--out", arena.path("found")]


def _rebuild(arena: Arena) -> list[str]:
    target = ["--target", "tensorrt-rtx-fp16", "--overwrite"]
    return ["rebuild", str(arena.plan), *target, "--out", arena.path("rebuilt")]


def _verify(arena: Arena) -> list[str]:
    return ["verify", arena.path("dist/onnx-fp32")]


def _embed(arena: Arena) -> list[str]:
    where = ["--input", arena.path("texts.txt"), "--output", arena.path("vectors"), "--shard-rows", "40"]
    return ["embed", arena.path("dist/onnx-fp32"), *where, "--format", "npy", "--threads", "1"]


def _bench(arena: Arena) -> list[str]:
    return ["bench", arena.path("dist/onnx-fp32"), "--rounds", "1", "--json", arena.path("bench.json")]


COMMANDS = (
    Command("build", _build, ("dist/pytorch-fp32", "dist/onnx-fp32")),
    Command("prune", _prune, ("pruned",)),
    Command("search", _search, ("found",)),
    Command("rebuild", _rebuild, ("rebuilt/tensorrt-rtx-fp16",)),
    Command("verify", _verify, ("dist/onnx-fp32",)),
    Command("embed", _embed, ("vectors",)),
    Command("bench", _bench, ("bench.json",)),
)
# Whose turn it is: a search takes as long as twenty of the others.
_TURNS = (
    "build", "prune", "rebuild", "verify", "embed", "bench", "search", "build", "rebuild", "verify", "embed",
    "bench", "build", "rebuild", "verify", "embed", "bench", "build", "rebuild", "verify", "embed",
)  # fmt: skip
Trouble = Callable[[], None]
# Where a fork that ends well leaves the names of its modules.
_at_the_end: list[Path] = []


def start(arguments: Sequence[str], log: Path, trouble: Trouble = lambda: None) -> int:
    """Runs a command in a fork of this process, which has all libraries at hand; its process id."""
    process = fork()
    if process:
        return process
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        trouble()
        from ringkas.cli import cli

        cli(list(arguments), prog_name="ringkas")
    except SystemExit as ending:
        sys.stdout.flush()
        sys.stderr.flush()
        for file in _at_the_end:
            file.write_text("\n".join(sys.modules), "utf-8")
        os._exit(ending.code if isinstance(ending.code, int) else 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(3)


def wait(process: int, seconds: float) -> int | None:
    """The status of a process as subprocess gives it; None where it still runs after so long."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def kill(process: int) -> None:
    """Ends a process, and those that it started, as hard as can be."""
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def at_event(number: int) -> Trouble:
    """A process that kills itself right before it touches a file for the `number`th time."""

    def trouble() -> None:
        seen = 0

        def hook(event: str, arguments: object) -> None:
            nonlocal seen
            if event in _EVENTS:
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return trouble


def counted(file: Path) -> Trouble:
    """A process that leaves in `file` how often it touched files."""

    def trouble() -> None:
        opened, seen = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 0

        def hook(event: str, arguments: object) -> None:
            nonlocal seen
            if event in _EVENTS:
                seen += 1
                os.pwrite(opened, str(seen).encode(), 0)

        sys.addaudithook(hook)

    return trouble


def limited(kind: int, most: int) -> Trouble:
    """A process with a limit: of a file's size, or of memory."""
    return lambda: resource.setrlimit(kind, (most, most))


class Kills:
    """Batches of tries. Each leaves the arena as an undisturbed run would."""

    def __init__(self, arena: Arena, commands: Sequence[Command] = COMMANDS) -> None:
        self.arena = arena
        possible = [one for one in commands if one.name != "rebuild" or arena.plan is not None]
        turns = [one for name in _TURNS for one in possible if one.name == name]
        self._commands = turns + [one for one in possible if one.name not in _TURNS]
        self._ways = _WAYS if arena.disk is None else _WAYS + _DISK_WAYS
        place = arena.disk.folder if arena.disk else arena.folder
        self._log = place.with_name(f"{place.name}.log")  # beside it, where there is always room
        self._prepare(self._commands[0])  # what it makes, others work on

    def batch(self, first: int) -> Iterator[Try]:
        for number in range(first, first + _BATCH):
            yield self.attempt(number)

    def attempt(self, number: int) -> Try:
        """Try `number`: one command, ended in one way, looked at, and run again."""
        chance = Random(f"kills {number}")
        command = self._commands[number % len(self._commands)]
        if command.name not in self.arena.undisturbed:
            self._prepare(command)
        way = self._ways[number // len(self._commands) % len(self._ways)]
        if command.name == "embed":
            shutil.rmtree(self.arena.folder / "vectors", ignore_errors=True)
        if chance.random() < _NOTHING_KEPT:
            shutil.rmtree(self.arena.kept, ignore_errors=True)
        name = f"{command.name}: {way}"
        outcome, wrong = getattr(self, f"_{way.replace(' ', '_')}")(command, chance)
        # Run again whatever was wrong: the next try finds a whole arena.
        wrong = next(filter(None, (wrong, self.lost(command), self._again(command))), "")
        said = f"{number}: {outcome}; {wrong}".replace(f"{self.arena.folder.parent}/", "")
        return Try(name, LOST if wrong else outcome, bool(wrong), said)

    def _prepare(self, command: Command) -> None:
        """An undisturbed run: how long it takes, how often it touches files, what it makes."""
        events, modules = self._log.with_suffix(".events"), self._log.with_suffix(".modules")
        for trouble in (lambda: _at_the_end.append(modules)), counted(events):
            shutil.rmtree(self.arena.kept, ignore_errors=True)
            began = time.monotonic()
            status = self._run(command, trouble)
            if status != 0:
                raise RuntimeError(f"{command.name}, undisturbed: {status}: {self._log.read_text()[-2000:]}")
            took = time.monotonic() - began
            if modules.exists():
                _import(modules)
        self.arena.undisturbed[command.name] = (took, int(events.read_text()))
        events.unlink()
        self.arena.expected |= {name: digest(self.arena.folder / name) for name in command.makes}

    def _run(self, command: Command, trouble: Trouble = lambda: None) -> int | None:
        """The status of a command; None where it had to be killed, because it would not end."""
        process = start(command.arguments(self.arena), self._log, trouble)
        status = wait(process, _PATIENCE)
        if status is None:
            kill(process)
        return status

    def _by_the_clock(self, command: Command, chance: Random) -> tuple[str, str]:
        process = start(command.arguments(self.arena), self._log)
        if wait(process, chance.uniform(0, self.arena.undisturbed[command.name][0])) is not None:
            return DONE, ""
        kill(process)
        return KILLED, ""

    def _at_a_file(self, command: Command, chance: Random) -> tuple[str, str]:
        event = chance.randint(1, self.arena.undisturbed[command.name][1])
        status = self._run(command, at_event(event))
        if status is None:
            return HANG, f"still running after {_PATIENCE} s"
        return (KILLED, "") if status == -signal.SIGKILL else (DONE, "")

    def _no_room(self, command: Command, chance: Random) -> tuple[str, str]:
        return self._said(command, limited(resource.RLIMIT_FSIZE, _some_bytes(chance)), {2: SAID, 0: DONE})

    def _disk_full(self, command: Command, chance: Random) -> tuple[str, str]:
        assert self.arena.disk is not None
        with self.arena.disk.full_but_for(_some_bytes(chance)):
            return self._said(command, lambda: None, {2: SAID, 0: DONE})

    def _read_only(self, command: Command, chance: Random) -> tuple[str, str]:
        assert self.arena.disk is not None
        with self.arena.disk.read_only():
            return self._said(command, lambda: None, {2: SAID, 0: DONE})

    def _no_memory(self, command: Command, chance: Random) -> tuple[str, str]:
        most = _data_now() + int(2 ** chance.uniform(22, 30))
        # What of the libraries meets it decides how it ends: an exception of theirs, or an abort.
        return self._said(command, limited(resource.RLIMIT_DATA, most), {0: DONE}, NO_MEMORY)

    def _said(
        self, command: Command, trouble: Trouble, meanings: Mapping[int, str], otherwise: str = ""
    ) -> tuple[str, str]:
        status = self._run(command, trouble)
        if status is None:
            return HANG, f"still running after {_PATIENCE} s"
        said = self._log.read_text("utf-8", "replace")
        outcome = meanings.get(status, otherwise)
        if outcome == SAID and "Traceback" in said:
            outcome = ""
        return (outcome, "") if outcome else (DEFECT, f"status {status}: {said[-600:]}")

    def lost(self, command: Command) -> str:
        """What is wrong in the arena: an earlier artifact that is gone or broken, half of one that opens."""
        for name, expected in self.arena.expected.items():
            place = self.arena.folder / name
            if name in command.makes and name in ("vectors", "bench.json"):
                continue  # made anew each time, in parts that count one by one
            if not place.exists():
                return f"{name} is gone"
            if digest(place) != expected:
                return f"{name} is neither the earlier nor a whole new one"
        for manifest in self.arena.folder.rglob(MANIFEST_FILE):
            if problem := half(manifest.parent):
                return problem
        for file in self.arena.kept.glob("*.bin"):
            data = file.read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                return f"half of {file.name} is kept"
        return ""

    def _again(self, command: Command) -> str:
        """The same command, undisturbed: it ends well and leaves nothing behind."""
        status = self._run(command)
        if status != 0:
            return f"run again it ends with {status}: {self._log.read_text('utf-8', 'replace')[-600:]}"
        for name in command.makes:
            if name != "bench.json" and digest(self.arena.folder / name) != self.arena.expected[name]:
                return f"run again, {name} is another"
        left = [str(one.relative_to(self.arena.folder)) for one in self.arena.folder.rglob(".*")]
        return f"run again, it leaves {left[:3]}" if left else ""


_WAYS = ("at a file", "by the clock", "at a file", "no room", "at a file", "by the clock", "no memory")
_DISK_WAYS = ("disk full", "at a file", "read only")


def _some_bytes(chance: Random) -> int:
    return int(1024 * 2 ** chance.uniform(0, 15))


def half(folder: Path) -> str:
    """What is wrong with a folder that opens as an artifact, whatever it is called."""
    from ringkas.artifact import open_artifact
    from ringkas.errors import RingkasError

    try:
        opened = open_artifact(folder)
        opened.check_files(quickly=True)
    except RingkasError:
        return ""
    listed = {*opened.manifest.files, MANIFEST_FILE, "parity.json"}
    here = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    stray = {name for name in here - listed if "/." not in f"/{name}"}
    return f"{folder} opens, but holds {sorted(stray)[:3]}" if stray else ""


def digest(place: Path) -> str:
    """Of all that a folder holds but unfinished work and the time's own: reports, and what counts seconds."""
    import json

    total = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else ():
        if not file.is_file() or file.name in ("parity.json", "frontier.json", "run.json", "README.md"):
            continue
        if "/." in f"/{file.relative_to(place).as_posix()}":
            continue  # the next run sweeps it
        data = file.read_bytes()
        if file.name == MANIFEST_FILE:
            manifest = json.loads(data)
            if manifest["engine"].startswith("tensorrt"):
                continue  # a plan's record says how long its building took
            data = json.dumps([manifest["files"].get(manifest["model_file"]), manifest["encoding"]]).encode()
        if file.suffix in (".npy", ".onnx", ".safetensors", ".json", ".gguf", ".npz"):
            total.update(f"{file.relative_to(place)}\n".encode() + hashlib.sha256(data).digest())
    return total.hexdigest()


def _import(listed: Path) -> None:
    """Imports here what a command imported: the next fork touches its own files alone."""
    for name in listed.read_text("utf-8").split("\n"):
        with suppress(Exception):
            import_module(name)
    listed.unlink()


def _data_now() -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


def make_arena(folder: Path, subjects: Sequence[Subject], disk: Disk | None = None) -> Arena:
    """A new arena: texts to embed, and room for what the commands make."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = [f"{text or 'empty'} {number}" for number in range(60) for text in TEXTS]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n", "utf-8")
    found = {one.name: one.folder for one in subjects}
    return Arena(folder, found["checkpoint"], found.get("tensorrt-rtx"), disk)


@contextmanager
def open_campaign(work: Path, record: Record) -> Iterator[Batch]:
    """The batches, on an arena of their own; what Python imports is imported once, before the forks."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    subjects = make_subjects_apart(work / "subjects")
    import onnx
    import onnxruntime
    import onnxscript
    import torch
    import transformers

    import ringkas.cache
    import ringkas.cli
    import ringkas.export.build

    assert all((onnx, onnxruntime, onnxscript, torch, transformers, ringkas.cli, ringkas.export.build))
    with Disk.mounted(work / "disk") as disk:
        arena = make_arena(work / "disk" / "arena" if disk else work / "arena", subjects, disk)
        os.environ["RINGKAS_CACHE"] = arena.path("cache")
        ringkas.cache.key_of()  # reads the package's files, which a fork then knows
        yield Kills(arena).batch


def make_subjects_apart(place: Path) -> list[Subject]:
    """The subjects, made by another process: threads of libraries do not come along through a fork."""
    code = "import sys, pathlib, attack.subjects as s; s.make_subjects(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(place)], env=environment(), check=True)
    return make_subjects(place)
