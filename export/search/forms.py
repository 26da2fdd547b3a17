"""The forms of a checkpoint that a search compares: each written, opened, and measured as an artifact is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas import texts as text_sets
from ringkas.artifact import Artifact
from ringkas.checkpoint import Checkpoint
from ringkas.errors import TextError
from ringkas.export.finish import Written, finish, state_search
from ringkas.export.layout import write_layout
from ringkas.export.search.frontier import Point
from ringkas.export.to_onnx import graph as onnx_graph
from ringkas.export.to_onnx.quantized import write_twin
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import load, load_reference_encoder
from ringkas.runtimes.measure.cases import MIX, SINGLE_STREAM, cases
from ringkas.runtimes.measure.rounds import Procedure, measure
from ringkas.runtimes.measure.worker import Subject
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.search import unmeasured
from ringkas.targets import target
from ringkas.tokens import TextTokenizer

TARGETS = ("onnx-int3", "onnx-int4", "onnx-int8", "onnx-fp16", "onnx-fp32")
_FLOAT = ("onnx-fp16", "onnx-fp32")
_CALIBRATION_TOKENS = 8192
# Of the calibration texts, in hundredths by hash, those that fit; the others choose.
_FIT_PERCENT = 65
_FEWEST = 3
# The worst of many texts loses more than the worst of few: twice as much as that of this many.
_DOUBLED_AT = 20

Row = Sequence[int]


@dataclass(frozen=True)
class Form:
    """A form that was written, and the cosine with the reference of each choosing text."""

    name: str
    artifact: Artifact
    cosines: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """Calibration texts as token ids, in two parts, and the reference's vectors of the second."""

    fitting: list[Row]
    choosing: list[Row]
    expected: npt.NDArray[Any]


@dataclass(frozen=True)
class FormMaker:
    """Writes the forms of one checkpoint.

    Args:
        checkpoint: what they are made from, pruned already.
        probe: travels in each artifact; nothing here compares with it.
        folder: gets a folder for each form.
        record: what each manifest says of the search.
        promise: the cosine minimum that each artifact is later judged by.
    """

    checkpoint: Checkpoint
    probe: Probe
    folder: Path
    record: Mapping[str, Any]
    promise: float | None = None

    def make(self, texts: Texts, progress: Progress = QUIET) -> list[Form]:
        """Every rung of the ladder, then the float targets, each compared on the choosing texts."""
        from ringkas.quantize.for_onnx.ladder import ladder
        from ringkas.quantize.for_onnx.twin import Quantizer

        forms: list[Form] = []
        quantizer = Quantizer(self.checkpoint, texts.fitting, progress=progress)
        for rung in ladder(quantizer, progress):
            place = self._place(rung.name)
            with quantizer.twin(rung.scheme) as twin:
                written = Written(*write_twin(self.checkpoint, rung.scheme, twin, place))
            forms.append(self._form(rung.name, rung.scheme.target, written, texts))
            progress.say(_summary(forms[-1]))
        for name in _FLOAT:
            place, precision = self._place(name), target(name).precision
            written = Written(
                onnx_graph.write_graph(self.checkpoint, precision, place),
                {"weights": precision, "opset": onnx_graph.OPSET},
            )
            forms.append(self._form(name, name, written, texts))
            progress.say(_summary(forms[-1]))
        return forms

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        write_layout(self.checkpoint, place)
        return place

    def _form(self, name: str, target_name: str, written: Written, texts: Texts) -> Form:
        written = Written(written.model_file, {**written.scheme, "search": dict(self.record)})
        artifact = finish(
            self.checkpoint, target(target_name), written, self.probe, self.folder / name, self.promise
        )
        # The model card gets its table of what the form costs at search when that is known: the form is
        # weighed with a table of that length.
        artifact = state_search(artifact, unmeasured(self.probe.search or {}))
        with load(artifact) as encoder:
            cosines = cosine(texts.expected, encoder.encode_ids(texts.choosing))
        return Form(name, artifact, cosines)


def part_texts(checkpoint: Checkpoint, seed: int) -> Texts:
    """The calibration texts of the checkpoint's languages, parted by the hash of their ids and the seed.

    Raises:
        TextError: one part has too few.
    """
    from ringkas.quantize.calibrate import token_ids

    fitting: list[Row] = []
    choosing: list[Row] = []
    for row in token_ids(checkpoint, _CALIBRATION_TOKENS):
        digest = hashlib.blake2b(repr((seed, list(row))).encode(), digest_size=8).digest()
        (fitting if int.from_bytes(digest) % 100 < _FIT_PERCENT else choosing).append(row)
    if min(len(fitting), len(choosing)) < _FEWEST:
        raise TextError("there are too few calibration texts to choose by", fix="Try another --seed")
    with load_reference_encoder(checkpoint) as reference:
        return Texts(fitting, choosing, reference.encode_ids(choosing))


def measure_forms(forms: Sequence[Form], plan: Procedure, progress: Progress = QUIET) -> list[Point]:
    """Times all forms, the rounds interleaved, on calibration texts of some lengths."""
    first = forms[0].artifact
    texts = next(iter(text_sets.calibration(first.manifest.languages).values()))
    tokenizer = TextTokenizer(first.path, first.manifest.encoding)
    wanted = [case for case in cases(tokenizer, texts, [SINGLE_STREAM]) if case.name != MIX]
    subjects = [Subject(form.name, artifact=form.artifact.path) for form in forms]
    return [
        Point(
            name=form.name,
            target=form.artifact.manifest.target,
            bytes=form.artifact.size,
            cosine_min=float(form.cosines.min()),
            cosine_mean=float(form.cosines.mean()),
            cosine_expected=expected_least(form.cosines),
            latency={timing.case: timing.total for timing in measured.timings},
            scheme=form.artifact.manifest.scheme,
        )
        for form, measured in zip(forms, measure(subjects, wanted, plan, progress), strict=True)
    ]


def expected_least(cosines: npt.NDArray[np.float64]) -> float:
    """What the least cosine of other, more texts will be about, from the least seen and their number."""
    reserve = 1 + (_DOUBLED_AT / len(cosines)) ** 0.5
    return float(1 - reserve * (1 - cosines.min()))


def _summary(form: Form) -> str:
    return f"{form.name}: {form.artifact.size / 1e6:.1f} MB, cosine minimum {form.cosines.min():.5f}"
