"""The mission in one command: multilingual-e5-small for Korean and English, small, verified, searched.

    python benchmarks/mission_demo.py [--out dist/demo-e5]

Cuts the vocabulary, builds `onnx-int8` (and `gguf-q8_0` where llama.cpp is installed), verifies each from its
own stored vectors, and asks questions in one language whose answers are in the other, beside the full model
in PyTorch. Then sizes, cosines, loading and latency. What each step takes is printed behind it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

MODEL = "demo-e5"
LANGUAGES = ("ko", "en")
ROWS = 41_348
GGUF = "gguf-q8_0"
_CALLS = 30  # of one question, for its median


@dataclass(frozen=True)
class Asked:
    """A question, and the place in `PASSAGES` of its answer, which is in the other language."""

    text: str
    answer: int


PASSAGES = (
    "자전거 바퀴에 구멍이 나면 튜브를 물에 담가 거품이 나는 곳을 찾아 사포로 문지르고 패치를 붙이면 된다.",
    "김치찌개는 잘 익은 김치와 돼지고기를 먼저 볶다가 물을 붓고 푹 끓여야 국물 맛이 깊어진다.",
    "고양이가 물을 잘 마시지 않으면 그릇을 여러 곳에 두거나 흐르는 물이 나오는 급수기를 써 보는 것이 좋다.",
    "여권을 잃어버렸다면 가까운 경찰서에 신고하고, 대사관에서 임시 여행 증명서를 발급받아야 한다.",
    "세종대왕은 백성이 쉽게 글을 읽고 쓸 수 있도록 1443년에 훈민정음을 만들었다.",
    "To keep basil alive indoors, give it six hours of light and water it only when the soil is dry.",
    "A laptop battery lasts longer if it is kept between twenty and eighty per cent and away from heat.",
    "The tide rises and falls twice a day because the moon pulls the sea on both sides of the earth.",
    "If a guitar string buzzes, raise the bridge a little or check whether a fret has come loose.",
    "Fresh bread stays soft for three days in a paper bag inside a closed box; the fridge dries it out.",
)
QUESTIONS = (
    Asked("How do I fix a puncture on my bike?", 0),
    Asked("What makes a kimchi stew taste rich?", 1),
    Asked("My cat hardly drinks. What can I do?", 2),
    Asked("I lost my passport abroad, where should I go?", 3),
    Asked("Who invented the Korean alphabet, and why?", 4),
    Asked("집 안에서 바질을 키우려면 물을 얼마나 자주 줘야 하나요?", 5),
    Asked("노트북 배터리 수명을 늘리는 방법이 있을까?", 6),
    Asked("밀물과 썰물은 왜 생기나요?", 7),
    Asked("기타 줄에서 지직거리는 소리가 나요.", 8),
    Asked("빵을 며칠 동안 촉촉하게 보관하려면 어디에 두어야 하나요?", 9),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dist/demo-e5"))
    options = parser.parse_args()
    started = time.perf_counter()
    targets = ["onnx-int8"]
    if all(map(find_spec, ("llama_cpp", "gguf"))):
        targets.append(GGUF)
    else:
        print(f"{GGUF} is left out, for llama.cpp is not installed: make install-all compiles it, once")
    folders = make(options.out, targets)
    verify(folders)
    encoders = open_encoders(folders)
    show_search(encoders)
    show_table(folders, encoders)
    print(f"All of it took {time.perf_counter() - started:.0f} s. The artifacts are in {options.out}/.")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Says what a step took."""
    print(f"\n== {name}", flush=True)
    started = time.perf_counter()
    yield
    print(f"[{time.perf_counter() - started:.1f} s]", flush=True)


def make(out: Path, targets: Sequence[str]) -> dict[str, Path]:
    """The artifacts' folders by target."""
    from ringkas import build_all, open_checkpoint
    from ringkas.export.build import BuildOptions
    from ringkas.export.vocabulary.prune import PruneOptions
    from ringkas.progress import Progress

    with step(f"reading {MODEL}: expanded once into the user's cache, checked by its SHA-256"):
        checkpoint = open_checkpoint(MODEL)
        print(checkpoint.note)
    with step(f"cutting it to Korean and English, building {', '.join(targets)}"):
        options = BuildOptions(overwrite=True, prune=PruneOptions(LANGUAGES, {}, ROWS))
        built = build_all(checkpoint, targets, out, options, Progress())
    certificate = built[0].artifact.manifest.vocabulary
    assert certificate is not None
    rows = certificate["rows"]
    print(f"vocabulary: {rows['before']:.0f} rows before, {rows['after']:.0f} after")
    for language, report in certificate["by_language"].items():
        print(
            f"  {language}: {report['identical']:.1%} of {report['texts']} unseen texts segmented as before"
        )
    return {one.artifact.manifest.target: one.artifact.path for one in built}


def verify(folders: dict[str, Path]) -> None:
    """As a device does: from the vectors that are stored in the artifact, without PyTorch."""
    from ringkas import verify as run

    with step("verifying each artifact as a device would, from its stored vectors"):
        for target, path in folders.items():
            report = run(path)
            verdict = "parity holds" if report.passed else "parity FALLS SHORT: " + "; ".join(report.failures)
            print(
                f"{target}: cosine min {report.cosine_min:.5f}, mean {report.cosine_mean:.5f}, "
                f"{report.texts} texts: {verdict}"
            )


def open_encoders(folders: dict[str, Path]) -> dict[str, Any]:
    """The full model in PyTorch, and each artifact."""
    from ringkas import load, load_reference_encoder

    encoders: dict[str, Any] = {}
    with step("opening the full model in PyTorch and the artifacts"):
        encoders["PyTorch, full"] = load_reference_encoder(MODEL)
        for target, path in folders.items():
            encoders[target] = load(path, allow_failed=True)
    return encoders


def show_search(encoders: dict[str, Any]) -> None:
    """Every question, the passage found first, its cosine by each encoder, and how many are right."""
    with step("questions in one language, passages of the other: the one found first, and its cosine"):
        found = {name: find(encoder) for name, encoder in encoders.items()}
        for row, question in enumerate(QUESTIONS):
            print(f"\n{question.text}")
            first, score = found[next(reversed(found))][row]
            mark = "" if first == question.answer else "   (not the answer)"
            print(f"  -> {PASSAGES[first]}{mark}")
            scores = []
            for name, results in found.items():
                place, score = results[row]
                scores.append(f"{name} {score:.3f}{'' if place == question.answer else ' (another passage)'}")
            print("     " + ", ".join(scores))
        for name, encoder in encoders.items():
            mixed = right(find(encoder, everywhere=True))
            print(
                f"{name}: {right(found[name])} of {len(QUESTIONS)} answers first in the other language, "
                f"{mixed} among the passages of both languages"
            )


def find(encoder: Any, everywhere: bool = False) -> list[tuple[int, float]]:
    """For each question the place of the nearest passage of the other language, and its cosine.

    With `everywhere` those of its own language stand in the way too, which E5 ranks higher than they deserve.
    """
    queries = encoder.encode_query([asked.text for asked in QUESTIONS])
    similar = queries @ encoder.encode_document(list(PASSAGES)).T
    if not everywhere:
        own = [[is_korean(asked.text) == is_korean(text) for text in PASSAGES] for asked in QUESTIONS]
        similar = np.where(own, -np.inf, similar)
    return [(int(row.argmax()), float(row.max())) for row in similar]


def right(results: Sequence[tuple[int, float]]) -> int:
    """How many questions found their answer first."""
    return sum(place == asked.answer for (place, _), asked in zip(results, QUESTIONS, strict=True))


def is_korean(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def show_table(folders: dict[str, Path], encoders: dict[str, Any]) -> None:
    """Size, least cosine with PyTorch here, seconds to the first vector, and one question's latency."""
    from load_and_size import child

    from ringkas import open_artifact, open_checkpoint
    from ringkas.runtimes.parity.judge import cosine

    texts = [asked.text for asked in QUESTIONS] + list(PASSAGES)
    with step("size, cosine, loading (in a process of its own), latency of one question"):
        expected = next(iter(encoders.values())).encode(texts)
        heads = ("", "MB", "cosine min", "mean", "to the first vector, s", "one question, ms")
        lines = []
        for name, encoder in encoders.items():
            cosines = cosine(expected, encoder.encode(texts))
            path = folders.get(name)
            if path is None:
                files = (file for file in open_checkpoint(MODEL).path.rglob("*") if file.is_file())
                size, loading = sum(file.stat().st_size for file in files), ""
            else:
                size, loading = open_artifact(path).size, f"{child('facade', path)['seconds']:.2f}"
            near = (f"{cosines.min():.4f}", f"{cosines.mean():.4f}")
            lines.append((name, f"{size / 1e6:.1f}", *near, loading, f"{latency_ms(encoder):.1f}"))
        widths = [max(len(row[column]) for row in (heads, *lines)) for column in range(len(heads))]
        for row in (heads, *lines):
            print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        print(
            "All are open in one process, so each one's idle threads sleep (OMP_WAIT_POLICY=PASSIVE), and\n"
            "short texts take PyTorch and llama.cpp longer than alone: `ringkas bench` keeps them apart."
        )


def latency_ms(encoder: Any) -> float:
    """The median of encoding one short question, tokenising included."""
    taken = []
    for _ in range(_CALLS + 1):
        started = time.perf_counter()
        encoder.encode_query(QUESTIONS[0].text)
        taken.append(1e3 * (time.perf_counter() - started))
    return median(taken[1:])  # the first one warms up


if __name__ == "__main__":
    # Idle threads of one engine sleep while another is timed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
