"""Files: every kind of artifact and checkpoint, damaged or forged; refused in one line, or the same vectors.

Where the attacker writes the checksums anew, and in a checkpoint, which has none, other vectors are no fault:
it is then another model, as whole as any. Everything else is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from attack import formats
from attack.child import Child
from attack.damage import BYTES, mutated
from attack.record import OTHER, REFUSED, SAME, Batch, Record, Try
from attack.subjects import Subject, make_subjects
from attack.worker import VECTORS
from ringkas.artifact import MANIFEST_FILE, manifest_checksum
from ringkas.files import sha256, xxh3

_BATCH = 50
_LARGEST_SIGNED = 1 << 30
Ask = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Victim:
    """A copy that may be damaged; its files are those of the subject until they are replaced."""

    folder: Path
    subject: Subject
    others: Sequence[Subject]
    chance: Random

    @property
    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    @property
    def model(self) -> Path:
        """The weights: the manifest's model file, or the checkpoint's."""
        manifest = self.folder / MANIFEST_FILE
        if manifest.is_file():
            return self.folder / str(json.loads(manifest.read_text("utf-8"))["model_file"])
        return self.any_of("*.safetensors")

    def any_of(self, pattern: str) -> Path:
        return self.chance.choice(sorted(self.folder.rglob(pattern)))

    def any_file(self) -> Path:
        return self.model if self.chance.random() < 0.4 else self.chance.choice(self.files)


@dataclass(frozen=True)
class Attack:
    """A change, and whether the checksums are written anew after it; None where it does not apply."""

    name: str
    change: Callable[[Victim], None]
    signed: bool = False
    fits: Callable[[Subject], bool] = lambda subject: True


def _artifact(subject: Subject) -> bool:
    return subject.job != "checkpoint"


def _onnx(subject: Subject) -> bool:
    return subject.name.startswith(("onnx", "tensorrt"))


def _damaged(kind: str) -> Callable[[Victim], None]:
    def change(victim: Victim) -> None:
        file = victim.any_file()
        formats.replace(file, BYTES[kind](bytearray(file.read_bytes()), victim.chance))

    return change


def _json(victim: Victim) -> None:
    file = victim.any_of("*.json")
    formats.replace(file, mutated(file.read_bytes(), victim.chance))


def _manifest(victim: Victim) -> None:
    file = victim.folder / MANIFEST_FILE
    formats.replace(file, mutated(file.read_bytes(), victim.chance))


def _missing(victim: Victim) -> None:
    victim.any_file().unlink()


def _no_file(victim: Victim) -> None:
    """What is no file, or leads elsewhere, in the place of one."""
    file, what = victim.any_file(), victim.chance.randrange(7)
    data = file.read_bytes()
    file.unlink()
    outside = victim.folder.parent / "outside"
    if what == 0:
        os.mkfifo(file)
    elif what == 1:
        file.mkdir()
    elif what == 2:
        with file.open("wb") as stream:
            stream.truncate(1 << 40)
    elif what == 3:
        outside.write_bytes(data)
        file.symlink_to(outside)
    else:
        file.symlink_to((file.name, "/dev/zero", "/etc/passwd")[what - 4])


def _swapped(victim: Victim) -> None:
    """A file of another artifact, of the same name where there is one."""
    other = victim.chance.choice(victim.others).folder
    file = victim.any_file()
    same = other / file.relative_to(victim.folder)
    taken = (
        same if same.is_file() else victim.chance.choice([one for one in other.rglob("*") if one.is_file()])
    )
    file.unlink()
    shutil.copyfile(taken, file)


def _older_manifest(victim: Victim) -> None:
    other = victim.chance.choice([one for one in victim.others if _artifact(one)]).folder
    formats.replace(victim.folder / MANIFEST_FILE, (other / MANIFEST_FILE).read_bytes())


def _manifest_path(victim: Victim) -> None:
    file = victim.folder / MANIFEST_FILE
    manifest = json.loads(file.read_text("utf-8"))
    path, what = victim.chance.choice(formats.PATHS), victim.chance.random()
    (victim.folder.parent / "outside").write_bytes(victim.model.read_bytes())
    name = victim.chance.choice(list(manifest["files"]))
    if what < 0.5:
        manifest["files"][path] = manifest["files"].pop(name)
    if what > 0.3:
        manifest["model_file"] = path
    formats.replace(file, json.dumps(manifest).encode())


def _index_path(victim: Victim) -> None:
    """The index of shards, or the list of modules, names what lies elsewhere."""
    path = victim.chance.choice((*formats.PATHS, "pytorch_model.bin", "config.json"))
    index, modules = victim.folder / "model.safetensors.index.json", victim.folder / "modules.json"
    if index.is_file() and (victim.chance.random() < 0.5 or not modules.is_file()):
        document = json.loads(index.read_text("utf-8"))
        document["weight_map"][victim.chance.choice(list(document["weight_map"]))] = path
        formats.replace(index, json.dumps(document).encode())
    elif modules.is_file():
        listed = json.loads(modules.read_text("utf-8"))
        victim.chance.choice(listed)["path"] = path
        formats.replace(modules, json.dumps(listed).encode())


def _header(victim: Victim) -> None:
    file = victim.any_of("*.safetensors")
    formats.replace(file, formats.safetensors_header(file.read_bytes(), victim.chance))


def _poison(victim: Victim) -> None:
    model = victim.model
    if model.suffix == ".safetensors":
        formats.replace(model, formats.safetensors_poison(bytearray(model.read_bytes()), victim.chance))
    elif model.suffix == ".gguf":
        formats.replace(model, formats.gguf_poison(model, victim.chance))
    else:
        formats.onnx_poison(model if model.suffix == ".onnx" else victim.any_of("*.onnx"), victim.chance)


def _archive(victim: Victim) -> None:
    file = victim.any_of("*.np[yz]")
    formats.replace(file, formats.archive(file.read_bytes(), victim.chance))


def _structure(victim: Victim) -> None:
    formats.onnx_structure(victim.any_of("*.onnx"), victim.chance)


def _external_path(victim: Victim) -> None:
    graph = victim.any_of("*.onnx")
    (victim.folder.parent / "outside").write_bytes(bytes(1 << 20))
    (graph.parent / "link").symlink_to(victim.folder.parent / "outside")
    formats.onnx_path(graph, victim.chance)


def _is(*names: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.name.startswith(names)


ATTACKS: tuple[Attack, ...] = (
    *(Attack(f"damaged: {kind}", _damaged(kind)) for kind in BYTES),
    *(Attack(f"signed anew: {kind}", _damaged(kind), True, _artifact) for kind in BYTES),
    Attack("JSON changed", _json),
    Attack("signed anew: JSON changed", _json, True, _artifact),
    Attack("signed anew: manifest changed", _manifest, True, _artifact),
    Attack("a file missing", _missing),
    Attack("no file in the place of one", _no_file),
    Attack("signed anew: no file in the place of one", _no_file, True, _artifact),
    Attack("a file of another artifact", _swapped),
    Attack("signed anew: a file of another artifact", _swapped, True, _artifact),
    Attack("manifest of another artifact", _older_manifest, False, _artifact),
    Attack("signed anew: paths in the manifest", _manifest_path, True, _artifact),
    Attack("paths in index and modules", _index_path, True, _is("checkpoint", "pytorch")),
    Attack("tensors' header", _header, True, _is("checkpoint", "pytorch")),
    Attack("signed anew: NaN or infinity", _poison, True),
    Attack("signed anew: archives", _archive, True, _is("onnx, v", "gguf, v", "compact")),
    Attack("signed anew: graph", _structure, True, _onnx),
    Attack("signed anew: external data", _external_path, True, _onnx),
)


class Files:
    """Batches of tries on files. `ask` does the jobs: a child, or in tests this process."""

    def __init__(self, subjects: Sequence[Subject], ask: Ask, work: Path | None = None) -> None:
        self._subjects, self._ask, self._work = subjects, ask, work
        self._expected: dict[str, str] = {}

    def batch(self, first: int) -> Iterator[Try]:
        """The tries from number `first` on."""
        for number in range(first, first + _BATCH):
            yield self.attempt(number)

    def attempt(self, number: int, attacks: Sequence[Attack] = ATTACKS) -> Try:
        """Try `number`: always the same attack on the same place of the same subject."""
        chance = Random(f"files {number}")
        attack = attacks[number % len(attacks)]
        subject = chance.choice([one for one in self._subjects if attack.fits(one)])
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            victim = Victim(Path(folder) / "victim", subject, self._subjects, chance)
            shutil.copytree(subject.folder, victim.folder, copy_function=os.link)
            attack.change(victim)
            if attack.signed:
                sign_anew(victim.folder)
            answer = self._ask({"job": subject.job, "folder": str(victim.folder)})
        return self._judged(number, attack, subject, answer)

    def _judged(self, number: int, attack: Attack, subject: Subject, answer: dict[str, Any]) -> Try:
        outcome = answer["outcome"]
        if outcome == VECTORS:
            outcome = SAME if answer["digest"] == self._digest(subject) else OTHER
        may_differ = attack.signed or subject.job == "checkpoint"
        bad = outcome not in (REFUSED, SAME) and not (outcome == OTHER and may_differ)
        note = f"{number} ({subject.name}): {outcome}: {answer.get('message', '')}"
        return Try(attack.name, outcome, bad, note)

    def _digest(self, subject: Subject) -> str:
        if subject.name not in self._expected:
            answer = self._ask({"job": subject.job, "folder": str(subject.folder)})
            if answer["outcome"] != VECTORS:
                raise RuntimeError(f"{subject.name}, untouched: {answer}")
            self._expected[subject.name] = answer["digest"]
        return self._expected[subject.name]


def sign_anew(folder: Path) -> None:
    """Writes the manifest's sizes and checksums as its files are now, as who forges an artifact would."""
    place = folder / MANIFEST_FILE
    try:
        honest = place.is_file() and place.stat().st_size < _LARGEST_SIGNED  # not a terabyte of holes
        manifest = msgspec.json.decode(place.read_bytes()) if honest else None
        for name, entry in manifest["files"].items() if isinstance(manifest, dict) else ():
            file = folder / name
            if file.is_file() and file.stat().st_size < _LARGEST_SIGNED:
                found = {"size": file.stat().st_size, "sha256": sha256(file), "xxh3": xxh3(file)}
                entry.update((key, value) for key, value in found.items() if key in entry)
        if isinstance(manifest, dict) and "checksum" in manifest:
            manifest["checksum"] = manifest_checksum(manifest)
        if manifest is not None:
            formats.replace(place, msgspec.json.encode(manifest))
    except (msgspec.MsgspecError, OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return  # what was done to the manifest cannot be signed


@contextmanager
def open_campaign(work: Path, record: Record) -> Iterator[Batch]:
    """The batches, with a child that does the jobs."""
    subjects = make_subjects(work / "subjects")
    with Child() as child, tempfile.TemporaryDirectory(dir=work) as folder:
        yield Files(subjects, child.ask, Path(folder)).batch
