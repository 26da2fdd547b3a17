"""The campaign of attacks, short: it passes on the code as it is, and catches code that is sabotaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attack import files, formats, kills, record, texts, threads, worker
from attack.child import Child, fork
from attack.damage import BYTES, mutated
from attack.disk import Disk
from attack.hostile import KINDS, hostile_texts
from attack.record import HANG, LOST, OTHER, REFUSED, SAME, Budget, Record, Try, run
from attack.subjects import Subject

import ringkas
from ringkas import build_all, open_checkpoint
from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError
from ringkas.export.build import BuildOptions
from ringkas.runtimes.engines import onnxruntime_engine

TARGETS = ("pytorch-fp32", "onnx-fp32")


@pytest.fixture(scope="module")
def subjects(
    small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Subject]:
    """A checkpoint and two artifacts of it, of one narrow layer."""
    checkpoint = small_checkpoint(max_length=32)
    (checkpoint / "README.md").write_text("---\nlanguage: en\n---\n", "utf-8")  # a short probe
    out = tmp_path_factory.mktemp("dist")
    built = build_all(open_checkpoint(checkpoint), TARGETS, out, BuildOptions(witness=False))
    assert all(one.report.passed for one in built)
    return [
        Subject("checkpoint", checkpoint, "checkpoint"),
        Subject("pytorch", out / "pytorch-fp32", "load"),
        Subject("onnx", out / "onnx-fp32", "load"),
        Subject("onnx, verified", out / "onnx-fp32", "verify"),
    ]


def here(job: dict[str, Any]) -> dict[str, Any]:
    """The jobs in this process: what cannot end it needs no child."""
    return worker.attempt(worker.JOBS[job["job"]], Path(job["folder"]))


@pytest.fixture
def campaign(subjects: list[Subject], tmp_path: Path) -> files.Files:
    return files.Files(subjects, here, tmp_path)


# Files


def test_every_attack_on_files_is_refused_or_harmless(subjects: list[Subject], tmp_path: Path) -> None:
    with Child(seconds=120) as child:
        campaign = files.Files(subjects, child.ask, tmp_path)
        tries = [campaign.attempt(number) for number in range(len(files.ATTACKS))]
    assert [one for one in tries if one.bad] == []
    assert {one.attack for one in tries} == {attack.name for attack in files.ATTACKS}
    assert {REFUSED, SAME} <= {one.outcome for one in tries}


def attacks(*names: str) -> list[files.Attack]:
    return [attack for attack in files.ATTACKS if attack.name in names]


def test_loader_that_skips_the_check_is_caught(
    campaign: files.Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Artifact, "check_files", lambda self, names=None, quickly=False: None)
    chosen = attacks("damaged: a run of bytes", "damaged: zeros", "damaged: a bit")
    tries = [campaign.attempt(number, chosen) for number in range(60)]
    assert any(one.bad and one.outcome == OTHER for one in tries)


def test_loader_that_asks_back_in_a_traceback_is_caught(
    campaign: files.Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(ringkas, "load", broken)
    one = campaign._judged(0, files.ATTACKS[0], campaign._subjects[1], here({"job": "load", "folder": "x"}))
    assert one.bad
    assert "KeyError" in one.note


def test_parser_that_reads_outside_the_folder_is_caught(
    subjects: list[Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our own reading of the graph, data that lie elsewhere reach the native parser."""
    subject = next(one for one in subjects if one.name == "onnx")
    asked = []
    monkeypatch.setattr(onnxruntime_engine, "check_graph", asked.append)
    victim = tmp_path / "victim"
    shutil.copytree(subject.folder, victim)
    graph = victim / "onnx" / "model.onnx"
    formats.onnx_path(graph, Random(1))
    files.sign_anew(victim)
    here({"job": "load", "folder": str(victim)})
    assert asked == [graph]
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="is not an ONNX graph that can be run"):
        ringkas.load(victim)


@pytest.mark.parametrize("change", ["pooling", "length"])
def test_checkpoint_that_contradicts_the_manifest_is_refused(
    subjects: list[Subject], tmp_path: Path, change: str
) -> None:
    """A PyTorch artifact states the sizes of its vectors twice: in the manifest, and in its checkpoint."""
    victim = Path(shutil.copytree(subjects[1].folder, tmp_path / "victim"))
    name, key, value = {
        "pooling": ("1_Pooling/config.json", "pooling_mode_max_tokens", True),
        "length": ("sentence_bert_config.json", "max_seq_length", 16),
    }[change]
    file = victim / name
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), key: value}), "utf-8")
    files.sign_anew(victim)
    with pytest.raises(ArtifactError, match="contradicts its manifest"):
        ringkas.load(victim, allow_failed=True)


def test_manifest_of_holes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "ringkas.json").open("wb") as stream:
        stream.truncate(1 << 40)
    files.sign_anew(tmp_path)


def test_forged_artifact_is_whole(subjects: list[Subject], tmp_path: Path) -> None:
    """The attacker's pen is good: what it signs anew passes every checksum."""
    victim = tmp_path / "victim"
    shutil.copytree(subjects[1].folder, victim)
    weights = victim / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert here({"job": "load", "folder": str(victim)})["outcome"] == REFUSED
    files.sign_anew(victim)
    assert here({"job": "load", "folder": str(victim)})["outcome"] == worker.VECTORS


@pytest.mark.parametrize("kind", BYTES)
def test_damage_is_damage(kind: str) -> None:
    whole = bytes(range(256)) * 8
    changed = [BYTES[kind](bytearray(whole), Random(seed)) for seed in range(20)]
    assert sum(one != whole for one in changed) >= 17
    assert BYTES[kind](bytearray(whole), Random(3)) == BYTES[kind](bytearray(whole), Random(3))


def test_changed_json_differs_and_is_mostly_json() -> None:
    whole = json.dumps({"a": {"b": [1, 2, {"c": "d"}]}, "e": 1.5}).encode()
    changed = [mutated(whole, Random(seed)) for seed in range(200)]
    assert sum(json_or_none(one) != json.loads(whole) for one in changed) > 180


def json_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


# The child


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        ("import os; os.abort()", record.CRASH),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", record.CRASH),
        ("import time; time.sleep(60)", HANG),
        ("bytearray(3 << 30)", record.MEMORY),
        ("raise KeyError(1)", record.DEFECT),
        ("from ringkas.errors import ArtifactError; raise ArtifactError('no')", REFUSED),
    ],
)
def test_whatever_a_job_does_is_an_outcome(job: str, outcome: str) -> None:
    code = f"import attack.worker as w\ndef job(folder):\n    {job}\nw.JOBS['load'] = job\nw.main()"
    # A busy machine takes long over 3 GB.
    with Child(seconds=10 if outcome == HANG else 60, code=code) as child:
        assert child.ask({"job": "load", "folder": "x"})["outcome"] == outcome


# Kills


class Room:
    """An arena in which one file is written by one command, as `write` does."""

    def __init__(
        self, folder: Path, write: str, monkeypatch: pytest.MonkeyPatch, disk: Disk | None = None
    ) -> None:
        self.arena = kills.Arena(folder, folder, disk=disk)
        command = kills.Command("write", lambda arena: [write, arena.path("made")], ("made",))
        monkeypatch.setattr(kills, "start", start)
        self.kills = kills.Kills(self.arena, [command])


def start(arguments: list[str], log: Path, trouble: Callable[[], None] = lambda: None) -> int:
    """As the campaign's own, with a writer of some files in the place of the command line."""
    log.touch()
    process = fork()
    if process:
        return process
    try:
        os.setsid()
        trouble()
        WRITERS[arguments[0]](Path(arguments[1]))
        os._exit(0)
    finally:
        os._exit(3)


def _staged(place: Path) -> None:
    from ringkas.files import staged_folder

    with staged_folder(place, overwrite=True) as folder:
        fill(folder)


def _within(place: Path) -> None:
    """As a search does, whose candidates are staged in the folder that they land in."""
    place.mkdir(exist_ok=True)
    _staged(place / "chosen")


def _too_early(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    fill(place)


def _aside(place: Path) -> None:
    """The earlier one is put aside first and removed last, and the name is taken between the two."""
    aside = place.with_name("aside")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        place.rename(aside)
    place.mkdir()
    fill(place)
    shutil.rmtree(aside, ignore_errors=True)


def fill(folder: Path) -> None:
    for number in range(20):
        (folder / f"{number}.json").write_text(str(number), "utf-8")


WRITERS = {"staged": _staged, "within": _within, "too early": _too_early, "aside": _aside}


@pytest.mark.parametrize(("writer", "loses"), [("staged", False), ("within", False), ("too early", True)])
def test_writer_that_takes_its_name_too_early_is_caught(
    writer: str, loses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path, writer, monkeypatch)
    monkeypatch.setattr(room.kills, "_ways", ("at a file",))
    tries = [room.kills.attempt(number) for number in range(25)]
    assert any(one.outcome == LOST for one in tries) == loses
    assert any(one.outcome in (kills.KILLED, LOST) for one in tries)


@pytest.mark.parametrize(("writer", "loses"), [("staged", False), ("aside", True)])
@pytest.mark.parametrize("way", ["disk full", "read only"])
def test_writer_that_half_writes_on_a_disk_that_gives_out_is_caught(
    writer: str, loses: bool, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Disk.mounted(tmp_path / "disk", "1m") as disk:
        if disk is None:
            pytest.skip("this user may not mount a file system")
        folder = disk.folder / "arena"
        folder.mkdir()
        room = Room(folder, writer, monkeypatch, disk)
        monkeypatch.setattr(room.kills, "_ways", (way,))
        # 3 is how a writer of this test ends that could not write.
        monkeypatch.setattr(room.kills, "_said", partial(said, room.kills))
        tries = [room.kills.attempt(number) for number in range(12)]
    assert any(one.outcome == LOST for one in tries) == (loses and way == "disk full")
    assert {one.outcome for one in tries} & {kills.SAID, LOST}


def said(own: kills.Kills, command: kills.Command, trouble: Callable[[], None], meanings: object) -> object:
    return kills.Kills._said(own, command, trouble, {3: kills.SAID, 0: kills.DONE})


# Texts


def test_hostile_texts_are_texts() -> None:
    found = hostile_texts("a seed", 11 * 30)
    assert found == hostile_texts("a seed", 11 * 30)
    assert all(text and text.encode("utf-8") for text in found)
    assert max(map(len, found)) > 500
    assert len(KINDS) == 11


def test_tokenizers_pass_and_a_shifted_id_is_caught(
    subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizers = texts.Tokenizers({"Unigram": subjects[2].folder})
    assert not any(one.bad for one in tokenizers.tries(0, 110))
    own, _ = tokenizers._open("Unigram")
    monkeypatch.setattr(type(own), "encode", lambda self, batch: [[0, 5, 2] for _ in batch])
    assert any(one.outcome == "other ids" for one in tokenizers.tries(0, 20))


def test_engine_takes_hostile_texts(subjects: list[Subject]) -> None:
    found = texts.texts_job(subjects[2].folder, "a seed", 33)
    assert found["wrong"] == {}
    assert found["measured"]["cosine"] > 0.99999
    texts._encoders.pop(subjects[2].folder).close()


# Threads


@pytest.mark.parametrize(
    "way", ["32 threads on one encoder", "forked", "a signal in the middle", "opened and closed"]
)
def test_rounds_of_threads(subjects: list[Subject], way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SECONDS", 0.5)
    found = threads.threads_job(way, [str(subjects[2].folder)], 1)
    assert found["wrong"] == []
    assert found["same"] > 0


def test_encoder_that_mixes_threads_up_is_caught(
    subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "SECONDS", 0.5)
    encode, calls = ringkas.Encoder.encode, []

    def mixed(self: Any, batch: Any, **options: Any) -> Any:
        calls.append(1)
        vectors = encode(self, batch, **options)
        return -vectors if len(calls) > threads._GROUPS + 3 else vectors

    monkeypatch.setattr(ringkas.Encoder, "encode", mixed)
    assert threads.threads_job("32 threads on one encoder", [str(subjects[2].folder)], 1)["wrong"]


# The record


def test_record_goes_on_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "files.json"

    def batch(first: int) -> Iterator[Try]:
        yield from (Try("an attack", SAME) for _ in range(10))
        yield Try("another", OTHER, first == 0, "how to see it again")

    run(Record.resume("files", file), batch, Budget(tries=20))
    found = run(Record.resume("files", file), batch, Budget(tries=1))
    assert found.tries == 33
    assert found.bad == 1
    assert found.tallies["another"].examples == ["how to see it again"]
    stored = json.loads(file.read_text("utf-8"))
    assert stored["tries"] == 33
    assert "machine" in stored["made"]
    assert "| an attack | 30 | 30 same | 0 |" in found.table()
