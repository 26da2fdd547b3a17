"""Four bits and fewer: what each step down saves in whole folders, and what it costs at search.

    python benchmarks/few_bits.py SIB200                  # demo-e5 cut to Korean and English in 41,348 rows
    python benchmarks/few_bits.py SIB200 --model demo     # all-MiniLM-L6-v2, English alone, not cut

SIB200 holds the same 1,004 sentences in each language, one file each, and `topics.txt`. Every form is a
whole artifact, and its bytes are those of all its files. Its vectors are compared with those of the
checkpoint as it was before the vocabulary was cut: nDCG@10 is the mean of a sentence finding its translation,
of its translation finding it, and of it finding the sentences of its topic; intervals are paired. Forms and
vectors are kept in --work and made only where they are missing. demo-e5's weights lie on a 4-bit grid, which
flatters blocks of 4 bits, and not codes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mission
import numpy as np
from msgspec.structs import replace
from results_file import write_result

from ringkas import load, load_reference_encoder, open_artifact, open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.export.finish import Written, finish, judge_artifact
from ringkas.export.layout import write_layout
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.files import staged_folder
from ringkas.progress import Progress
from ringkas.quantize.for_onnx.schemes import SCHEMES, OnnxScheme
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import reference_probe
from ringkas.targets import target

RESULTS = Path(__file__).resolve().parent / "results"
ROWS = 41_348
INT8, INT4, INT3 = (SCHEMES[f"onnx-{name}"] for name in ("int8", "int4", "int3"))
# From the largest to the smallest.
FORMS: Mapping[str, OnnxScheme] = {
    "onnx-int8": INT8,
    "onnx-int4": INT4,
    "4 bits, none wide": replace(INT4, bits_per_weight=None),
    "a table of 2.67 bits": replace(INT3, table_bits=3),
    "onnx-int3": INT3,
}


@dataclass(frozen=True)
class Subject:
    """A checkpoint, the languages that it is judged in, and how their texts are encoded."""

    model: str
    languages: tuple[str, ...]
    cut: bool
    prompt: str | None


SUBJECTS = {
    one.model: one
    for one in (Subject("demo-e5", ("ko", "en"), True, "query"), Subject("demo", ("en",), False, None))
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sib200", type=Path)
    parser.add_argument("--model", choices=list(SUBJECTS), default="demo-e5")
    parser.add_argument("--work", type=Path, default=Path("dist/few-bits"))
    parser.add_argument("--only", action="append", choices=list(FORMS), help="of the forms, these")
    options = parser.parse_args()
    subject, work = SUBJECTS[options.model], options.work / options.model
    wanted = {name: FORMS[name] for name in options.only or FORMS}
    make_missing(subject, wanted, work)
    result = judge(subject, list(wanted), work, options.sib200)
    command = f"python benchmarks/few_bits.py SIB200 --model {subject.model}"
    write_result(RESULTS / f"few_bits_{subject.model}.json", {"command": command, "forms": result})
    print(table(subject, result))


def make_missing(subject: Subject, forms: Mapping[str, OnnxScheme], work: Path) -> None:
    """Each form as an artifact in `work/forms`, all calibrated once."""
    from ringkas.export.to_onnx.quantized import write_twin
    from ringkas.quantize.calibrate import token_ids
    from ringkas.quantize.for_onnx.twin import Quantizer

    missing = {name: one for name, one in forms.items() if not place(work, name).is_dir()}
    if not missing:
        return
    progress, checkpoint = Progress(), open_checkpoint(subject.model)
    probe = reference_probe(checkpoint, subject.languages, progress=progress)
    if subject.cut:
        checkpoint = cut(checkpoint, subject, work / "cut", progress)
    quantizer = Quantizer(checkpoint, token_ids(checkpoint, INT3.calibration_tokens), progress=progress)
    for name, scheme in missing.items():
        with progress.stage(name), staged_folder(place(work, name)) as folder:
            write_layout(checkpoint, folder)
            with quantizer.twin(scheme) as twin:
                written = Written(*write_twin(checkpoint, scheme, twin, folder))
            _finish(checkpoint, scheme, written, probe, folder, progress)


def _finish(
    checkpoint: Checkpoint,
    scheme: OnnxScheme,
    written: Written,
    probe: Probe,
    folder: Path,
    progress: Progress,
) -> None:
    artifact = finish(checkpoint, target(scheme.target), written, probe, folder)
    report = judge_artifact(artifact, probe, progress)
    progress.say(f"{report.cosine_min:.4f} {report.cosine_mean:.4f} {report.top10_overlap:.3f}")


def cut(checkpoint: Checkpoint, subject: Subject, folder: Path, progress: Progress) -> Checkpoint:
    if folder.is_dir():
        return open_checkpoint(folder)
    with progress.stage("cutting the vocabulary"):
        return prune_checkpoint(checkpoint, PruneOptions(subject.languages, max_tokens=ROWS), folder)


def place(work: Path, name: str) -> Path:
    return work / "forms" / name.replace(" ", "-").replace(",", "")


def judge(subject: Subject, names: Sequence[str], work: Path, sib200: Path) -> dict[str, Any]:
    """By form: bytes, what its own report says, and by language what is kept of the reference's search."""
    sentences = {one: (sib200 / f"{one}.txt").read_text("utf-8").splitlines() for one in subject.languages}
    topics = np.array((sib200 / "topics.txt").read_text("utf-8").splitlines())
    reference = vectors(subject, sentences, None, work / "reference")
    base = scores(reference, topics)
    found: dict[str, Any] = {}
    for name in names:
        artifact = open_artifact(place(work, name))
        report = json.loads((artifact.path / "parity.json").read_text("utf-8"))
        own = vectors(subject, sentences, artifact.path, work / "vectors" / place(work, name).name)
        mine = scores(own, topics)
        found[name] = {
            "bytes": artifact.size,
            "graph_bytes": artifact.manifest.files[artifact.manifest.model_file].size,
            "bits_per_weight": artifact.manifest.scheme["stored_bits_per_weight"],
            "probe": {key: report[key] for key in ("cosine_min", "cosine_mean", "top10_overlap", "spearman")},
            "by_language": {
                language: compare(base[language], mine[language])
                | mission.cosines(reference[language], own[language])
                for language in subject.languages
            },
        }
    return found


def vectors(
    subject: Subject, sentences: Mapping[str, Sequence[str]], path: Path | None, kept: Path
) -> dict[str, mission.Vectors]:
    """Those of an artifact, or of the reference, by language."""
    kept.mkdir(parents=True, exist_ok=True)
    missing = [language for language in sentences if not (kept / f"{language}.npy").is_file()]
    if missing:
        opened = load_reference_encoder(subject.model) if path is None else load(path, allow_failed=True)
        with opened as encoder:
            for language in missing:
                encoded = encoder.encode(list(sentences[language]), prompt=subject.prompt)
                np.save(kept / f"{language}.npy", encoded)
    return {language: np.load(kept / f"{language}.npy") for language in sentences}


def scores(by_language: Mapping[str, mission.Vectors], topics: Any) -> dict[str, dict[str, mission.Floats]]:
    """By language and kind of search, nDCG@10 of each sentence."""
    found = {}
    for language, own in by_language.items():
        others = [one for name, one in by_language.items() if name != language]
        found[language] = {"topic": mission.topic_ndcg(own, topics)}
        if others:
            found[language] |= {
                "to translation": np.mean([mission.translation_ndcg(own, one) for one in others], axis=0),
                "from translation": np.mean([mission.translation_ndcg(one, own) for one in others], axis=0),
            }
    return found


def compare(base: Mapping[str, mission.Floats], mine: Mapping[str, mission.Floats]) -> dict[str, Any]:
    """nDCG@10, and the share of the reference's that is kept with its interval, of each kind and of all."""
    kinds = {**{kind: [kind] for kind in base}, "all": list(base)}
    if len(base) > 1:
        kinds["translation both ways"] = ["to translation", "from translation"]
    found = {}
    for kind, parts in kinds.items():
        before, after = (np.mean([one[part] for part in parts], axis=0) for one in (base, mine))
        kept, low, high = mission.ratio_interval(before, after)
        found[kind] = {
            "reference_ndcg_at_10": round(float(before.mean()), 5),
            "ndcg_at_10": round(float(after.mean()), 5),
            "kept": round(kept, 5),
            "kept_95": [round(low, 5), round(high, 5)],
        }
    return found


def table(subject: Subject, found: Mapping[str, Any]) -> str:
    heads = [f"{one}: nDCG@10 kept (95%)" for one in subject.languages]
    heads += [f"{one}: cosine min, mean" for one in subject.languages]
    lines = ["| form | MB | " + " | ".join(heads) + " |", "|---|---:|" + "---|" * len(heads)]
    for name, one in found.items():
        rows = [one["by_language"][language] for language in subject.languages]
        cells = [_kept(row["all"]) for row in rows]
        cells += [f"{row['cosine_min']:.4f}, {row['cosine_mean']:.4f}" for row in rows]
        lines.append(f"| {name} | {one['bytes'] / 1e6:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _kept(row: Mapping[str, Any]) -> str:
    low, high = row["kept_95"]
    return f"{row['kept']:.2%} ({low:.2%} to {high:.2%})"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
