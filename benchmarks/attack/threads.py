"""Threads, processes, signals and time: vectors stay as one thread gives them, memory stays, nothing is left.

A try is one call among the others: its vectors are compared, to the bit, with those of the same call made
alone beforehand.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attack.child import Child, fork
from attack.hostile import hostile_texts
from attack.record import LOST, REFUSED, SAME, Batch, Record, Try
from attack.subjects import Subject, make_subjects
from attack.worker import VECTORS

THREADS, ENCODERS, SECONDS = 32, 8, 20.0
_GROUPS = 24
# What an allocator keeps beyond what is in use, and rounds before which it has not seen all sizes.
_SLACK, _WARM_ROUNDS = 48 << 20, 3
Calls = Sequence[tuple[list[str], bytes]]


class Threads:
    """Batches: a round of each way in turn, in a child that keeps its encoders between rounds."""

    def __init__(self, subjects: Sequence[Subject], child: Child, record: Record) -> None:
        self._subjects = [one for one in subjects if one.job == "load" and one.name != "first format"]
        self._child, self._record, self._round = child, record, 0
        self._memory: list[int] = []

    def batch(self, first: int) -> Iterator[Try]:
        ways = list(WAYS)
        way = ways[self._round % len(ways)]
        self._round += 1
        folders = [str(one.folder) for one in self._subjects]
        answer = self._child.ask(
            {"job": "threads", "folder": "", "way": way, "folders": folders, "turn": self._round}
        )
        if answer["outcome"] != VECTORS:
            yield Try(way, answer["outcome"], True, answer.get("message", ""))
            return
        for _ in range(answer["same"]):
            yield Try(way, SAME)
        for _ in range(answer.get("refused", 0)):
            yield Try(way, REFUSED)
        for note in answer["wrong"]:
            yield Try(way, LOST, True, note)
        yield from self._flat(answer["resident"])

    def _flat(self, resident: int) -> Iterator[Try]:
        """Memory after each turn of all ways, against that after the first few."""
        if self._round % len(WAYS):
            return
        self._memory.append(resident)
        self._record.measured["resident MiB after each turn"] = [size >> 20 for size in self._memory]
        if len(self._memory) > _WARM_ROUNDS:
            grown = resident - max(self._memory[:_WARM_ROUNDS])
            note = f"{grown >> 20} MiB more than in the first turns"
            yield Try("memory", "flat" if grown < _SLACK else "grown", grown >= _SLACK, note)


def threads_job(way: str, folders: Sequence[str], turn: int) -> dict[str, Any]:
    """In the child: one round."""
    _make_pools(tuple(folders))
    found = WAYS[way]([Path(folder) for folder in folders], turn)
    return {"same": 0, "wrong": [], "resident": _resident()} | dict(found)


@cache
def _make_pools(folders: tuple[str, ...]) -> None:
    """What tokenizers and PyTorch make once for a process, and keep, before threads are counted."""
    import ringkas

    for folder in folders:
        with ringkas.load(folder, threads=2) as encoder:
            _calls(encoder)  # the main thread has helpers of its own
            users = [threading.Thread(target=encoder.encode, args=(_TEXTS,)) for _ in range(4)]
            for user in users:
                user.start()
            for user in users:
                user.join()


def _one_encoder(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """Many threads on one encoder."""
    return _together([folders[turn % len(folders)]], THREADS)


def _many_encoders(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """Many encoders, each with some threads."""
    return _together([folders[place % len(folders)] for place in range(ENCODERS)], THREADS)


def _together(folders: Sequence[Path], count: int) -> Mapping[str, Any]:
    import ringkas

    before = _tasks()
    encoders = [ringkas.load(folder, threads=2) for folder in folders]
    calls = [_calls(encoder) for encoder in encoders]
    same, wrong, until = [0] * count, [], time.monotonic() + SECONDS

    def work(number: int) -> None:
        chance, place = random.Random(number), number % len(encoders)
        try:
            while time.monotonic() < until:
                texts, expected = chance.choice(calls[place])
                if encoders[place].encode(texts).tobytes() == expected:
                    same[number] += 1
                else:
                    wrong.append(f"{folders[place].name}: {len(texts)} texts got other vectors")
        except BaseException as error:
            wrong.append(f"{folders[place].name}: {error!r:.300}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for encoder in encoders:
        encoder.close()
    left = _tasks() - before
    if left > 0 and _left_for_good(before):
        wrong.append(f"{left} threads are left after close")
    return {"same": sum(same), "wrong": wrong[:20]}


def _left_for_good(before: int) -> bool:
    """Whether threads are still there a moment later: one that ends is listed for a while yet."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if _tasks() <= before:
            return False
        time.sleep(0.05)
    return True


def _closed_and_opened(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """Encoders opened and closed again and again."""
    import ringkas

    folder, same, wrong = folders[turn % len(folders)], 0, []
    expected = b""
    for _ in range(10):
        with ringkas.load(folder, threads=2) as encoder:
            vectors = encoder.encode(_TEXTS).tobytes()
        expected = expected or vectors
        same += vectors == expected
        if vectors != expected:
            wrong.append(f"{folder.name}: opened again it gives other vectors")
    return {"same": same, "wrong": wrong}


def _forked(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """A fork of a process with an open encoder: refused there, or right; right here all the same."""
    import ringkas
    from ringkas.errors import RingkasError

    folder, counts, wrong = folders[turn % len(folders)], {"same": 0, "refused": 0}, []
    with ringkas.load(folder, threads=2) as encoder:
        expected = encoder.encode(_TEXTS).tobytes()
        for _ in range(3):
            process = fork()
            if not process:
                try:
                    os._exit(0 if encoder.encode(_TEXTS).tobytes() == expected else 1)
                except RingkasError:
                    os._exit(2)
                finally:
                    os._exit(3)
            status = _ended(process)
            kind = {0: "same", 2: "refused"}.get(status)
            if kind is None:
                wrong.append(f"{folder.name}: in a fork: status {status}")
            else:
                counts[kind] += 1
            if encoder.encode(_TEXTS).tobytes() != expected:
                wrong.append(f"{folder.name}: after a fork it gives other vectors")
    return counts | {"wrong": wrong}


def _spawned(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """A process of its own opens the artifact beside this one."""
    import ringkas

    folder = folders[turn % len(folders)]
    with ringkas.load(folder, threads=1) as encoder, get_context("spawn").Pool(1) as pool:
        expected = encoder.encode(_TEXTS).tobytes()
        found = pool.apply(vectors_of, (str(folder),))
    same = found == expected
    return {"same": int(same), "wrong": [] if same else [f"{folder.name}: spawned: other vectors"]}


def _interrupted(folders: Sequence[Path], turn: int) -> Mapping[str, Any]:
    """A signal whose handler raises, at any moment of `encode`; afterwards it is as it was."""
    import ringkas

    folder, same, wrong = folders[turn % len(folders)], 0, []
    chance = random.Random(turn)
    texts = list(hostile_texts("interrupted", 40))

    def handler(number: int, frame: object) -> None:
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with ringkas.load(folder, threads=2) as encoder:
            began = time.monotonic()
            expected = encoder.encode(texts).tobytes()
            took = time.monotonic() - began
            for _ in range(10):
                try:
                    signal.setitimer(signal.ITIMER_REAL, max(1e-4, chance.uniform(0, took)))
                    encoder.encode(texts)
                except InterruptedError:
                    pass
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                same += (equal := encoder.encode(texts).tobytes() == expected)
                if not equal:
                    wrong.append(f"{folder.name}: after a signal it gives other vectors")
    finally:
        signal.signal(signal.SIGALRM, previous)
    return {"same": same, "wrong": wrong}


WAYS: Mapping[str, Callable[[Sequence[Path], int], Mapping[str, Any]]] = {
    f"{THREADS} threads on one encoder": _one_encoder,
    f"{ENCODERS} encoders in one process": _many_encoders,
    "opened and closed": _closed_and_opened,
    "forked": _forked,
    "spawned": _spawned,
    "a signal in the middle": _interrupted,
}
_TEXTS = ["a text", "another, somewhat longer than the first", "", "naïve café 東京 한국어"]


def vectors_of(folder: str) -> bytes:
    """In a spawned process: what an artifact gives there."""
    import ringkas

    with ringkas.load(folder, threads=1) as encoder:
        return encoder.encode(_TEXTS).tobytes()


def _calls(encoder: Any) -> Calls:
    """Calls of one text and of several, and what each gives when nothing else runs."""
    texts = [text[:2000] for text in hostile_texts("threads", 4 * _GROUPS)]
    groups = [texts[place : place + 1 + place % 5] for place in range(0, len(texts), 4)]
    return [(group, encoder.encode(group).tobytes()) for group in groups]


def _ended(process: int, seconds: float = 60) -> int:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -1


def _tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def open_campaign(work: Path, record: Record) -> Iterator[Batch]:
    """The batches, in a child that lives as long as the run."""
    subjects = make_subjects(work / "subjects")
    with Child(seconds=600) as child:
        yield Threads(subjects, child, record).batch
