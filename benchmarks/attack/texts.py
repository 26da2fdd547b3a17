"""Texts: hostile ones through the tokenizers and through every engine.

Ids must be those of the whole tokenizer, whatever shortcut was taken (a large vocabulary's compact form, a
long text cut before it is tokenised), and none may take long. Vectors must be finite, of length one, and the
same alone as in a batch, within what each engine states.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from attack.child import Child
from attack.hostile import KINDS, hostile, hostile_texts
from attack.record import DEFECT, HANG, SAME, Batch, Record, Try
from attack.subjects import Subject, make_subjects
from attack.worker import VECTORS

_BATCH = 1100
# Of each so many tries, one batch goes through an engine instead.
_ENGINE_EVERY, ENGINE_TEXTS = 4, 110
_TOKENIZED = 1_000_000  # after so many through the tokenizers, the engines alone go on
# The least cosine of a text alone with the same among others (docs/gguf.md, docs/low-bits.md).
LEAST_COSINE: Mapping[str, float] = {
    "pytorch": 0.99999, "onnx": 0.99999, "onnx with external data": 0.9999, "onnx in 8 bits": 0.99999,
    "onnx in 4 bits": 0.99999, "gguf": 0.99999, "gguf in 4 bits": 0.99999, "compact tokenizer": 0.99999,
}  # fmt: skip
# A text of 100,000 characters that may not be cut takes longest; this is for a busy machine of two cores.
SLOWEST = 20.0


class Tokenizers:
    """The facade's tokenizer beside the `tokenizers` package's own, for some folders."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._opened: dict[str, tuple[Any, Any]] = {}
        self.slowest = 0.0

    def tries(self, number: int, count: int) -> Iterator[Try]:
        """So many texts through the tokenizer whose turn it is."""
        name = list(self._folders)[number % len(self._folders)]
        own, full = self._open(name)
        chance, kinds = Random(f"texts {number}"), list(KINDS)
        for place in range(count):
            kind = kinds[place % len(kinds)]
            text = hostile(chance, kind)
            began = time.perf_counter()
            try:
                ids = own.encode([text])[0]
            except BaseException as error:  # a panic of Rust's is no Exception
                yield self._bad(f"{name}: {kind}", DEFECT, f"{number}/{place}: {error!r:.300}")
                continue
            took = time.perf_counter() - began
            self.slowest = max(self.slowest, took)
            if took > SLOWEST:
                yield self._bad(
                    f"{name}: {kind}", HANG, f"{number}/{place}: {len(text)} characters in {took} s"
                )
            elif ids != full.encode(text).ids:
                yield self._bad(f"{name}: {kind}", "other ids", f"{number}/{place}: {text[:80]!r}")
            else:
                yield Try(f"{name}: {kind}", SAME)

    def _bad(self, attack: str, outcome: str, note: str) -> Try:
        return Try(f"tokenizer, {attack}", outcome, True, note)

    def _open(self, name: str) -> tuple[Any, Any]:
        if name not in self._opened:
            from tokenizers import Tokenizer

            from ringkas.artifact import open_artifact
            from ringkas.tokens import TextTokenizer

            artifact = open_artifact(self._folders[name])
            spec = artifact.manifest.encoding
            full = Tokenizer.from_file(str(artifact.path / "tokenizer.json"))
            full.no_padding()
            full.enable_truncation(spec.max_length, direction=spec.truncation_side)
            self._opened[name] = (TextTokenizer(artifact.path, spec), full)
        return self._opened[name]


class Texts:
    """Batches: three of the tokenizers, one of an engine, in turn."""

    def __init__(self, subjects: list[Subject], child: Child, record: Record) -> None:
        engines = [one for one in subjects if one.name in LEAST_COSINE]
        self._engines, self._child, self._record = engines, child, record
        found = {one.name: one.folder for one in subjects}
        self._tokenizers = Tokenizers({"WordPiece": found["onnx"], "Unigram": found["compact tokenizer"]})

    def batch(self, first: int) -> Iterator[Try]:
        turn = sum(tally.tries for name, tally in self._record.tallies.items() if ": " in name) // _BATCH
        done = sum(tally.tries for name, tally in self._record.tallies.items() if name.startswith("engine"))
        if done // ENGINE_TEXTS < turn // (_ENGINE_EVERY - 1) or turn * _BATCH >= _TOKENIZED:
            yield from self.through_an_engine(done // ENGINE_TEXTS)
            return
        for one in self._tokenizers.tries(turn, _BATCH):
            yield one if one.bad else Try(f"tokenizer, {one.attack}", one.outcome)
        self._record.measured["slowest text, seconds"] = round(self._tokenizers.slowest, 2)

    def through_an_engine(self, number: int) -> Iterator[Try]:
        """So many texts through the engine whose turn it is, together and one by one."""
        subject = self._engines[number % len(self._engines)]
        job = {
            "job": "texts",
            "folder": str(subject.folder),
            "seed": f"engine {number}",
            "count": ENGINE_TEXTS,
        }
        answer = self._child.ask(job)
        name = f"engine, {subject.name}"
        if answer["outcome"] != VECTORS:
            for _ in range(ENGINE_TEXTS):
                yield Try(name, answer["outcome"], True, f"{number}: {answer.get('message', '')}")
            return
        measured = dict(answer["measured"])
        least = min(float(self._record.measured.get(f"{name}, least cosine", 1)), measured["cosine"])  # type: ignore[arg-type]
        self._record.measured[f"{name}, least cosine"] = round(least, 7)
        for row in range(ENGINE_TEXTS):
            wrong = answer["wrong"].get(str(row))
            yield Try(
                name, "wrong vector" if wrong else "unit vector", bool(wrong), f"{number}/{row}: {wrong}"
            )
        if measured["cosine"] < LEAST_COSINE[subject.name]:
            yield Try(name, "another among others", True, f"{number}: cosine {measured['cosine']}")


def texts_job(folder: Path, seed: str, count: int) -> dict[str, Any]:
    """In the child: what came out of an encoder, kept open, for the texts of a seed."""
    import numpy as np

    import ringkas

    if folder not in _encoders:
        for encoder in _encoders.values():
            encoder.close()
        _encoders.clear()
        _encoders[folder] = ringkas.load(folder, threads=1)
    encoder = _encoders[folder]
    texts = hostile_texts(seed, count)
    together = encoder.encode(texts)
    norms = np.linalg.norm(together, axis=1)
    wrong = {row: f"norm {norms[row]}" for row in range(count) if not abs(norms[row] - 1) < 1e-3}
    some = list(range(0, count, 5))
    alone = np.stack([encoder.encode(texts[row]) for row in some])
    cosine = float((alone * together[some]).sum(axis=1).min())
    return {"measured": {"cosine": cosine}, "wrong": wrong}


_encoders: dict[Path, Any] = {}


@contextmanager
def open_campaign(work: Path, record: Record) -> Iterator[Batch]:
    """The batches; engines run in a child."""
    subjects = make_subjects(work / "subjects")
    with Child(seconds=600) as child:
        yield Texts(subjects, child, record).batch
