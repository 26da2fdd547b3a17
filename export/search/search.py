"""The search: the smallest, nearest or fastest ONNX form of a checkpoint that is as good as was wished.

What chooses is not what judges. The calibration texts are split by hash: one part sets ranges, rounding and
sensitivities, the other compares the forms and chooses; the chosen one is then judged on the probe set, as
every artifact is. It is the artifact that was measured, moved into place, not one built anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ringkas.artifact import open_artifact
from ringkas.checkpoint import Checkpoint
from ringkas.errors import TargetError, WishError
from ringkas.export.build import Built, pruned, require_engines
from ringkas.export.finish import judge_artifact
from ringkas.export.search.forms import TARGETS, FormMaker, measure_forms, part_texts
from ringkas.export.search.frontier import Frontier, Point, best_of, write_frontier
from ringkas.export.vocabulary.prune import PruneOptions
from ringkas.files import refuse_existing, scratch_folder, staged_folder
from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.parity.floors import floor_of
from ringkas.runtimes.parity.kept_probe import KeptProbe
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import reference_probe
from ringkas.runtimes.parity.witness import require_witness
from ringkas.targets import target

SEARCH_FOLDER = "search"
_PLAN = Procedure(rounds=3, seconds=0.2)
# Latencies nearer than this to the fastest are as fast: the smallest of them is taken.
_AS_FAST = 1.05


@dataclass(frozen=True)
class Wish:
    """What is asked for. The smallest form that meets it is chosen; without `cosine_min` the nearest one.

    Args:
        cosine_min: the least cosine with the reference that any text may have.
        max_bytes: the most that the artifact may weigh, tokenizer included.
        fastest: of the forms that meet the rest (and their targets' floors), the fastest.

    Raises:
        TargetError: nothing is wished, or the impossible.
    """

    cosine_min: float | None = None
    max_bytes: int | None = None
    fastest: bool = False

    def __post_init__(self) -> None:
        if self.cosine_min is None and self.max_bytes is None and not self.fastest:
            raise TargetError("nothing is wished for", fix="State a cosine, a size, or fastest")
        if self.cosine_min is not None and not 0 < self.cosine_min < 1:
            raise TargetError(
                f"a cosine minimum of {self.cosine_min} cannot be met", fix="State one between 0 and 1"
            )
        if self.max_bytes is not None and self.max_bytes < 1:
            raise TargetError(f"a size of {self.max_bytes} bytes cannot be met", fix="State a positive size")

    def allows(self, point: Point) -> bool:
        return self.is_small(point) and self.is_near(point)

    def is_small(self, point: Point) -> bool:
        return self.max_bytes is None or point.bytes <= self.max_bytes

    def is_near(self, point: Point) -> bool:
        floor = floor_of(target(point.target).precision)
        holds = point.cosine_min >= floor.cosine_min and point.cosine_mean >= floor.cosine_mean
        return holds and (self.cosine_min is None or point.cosine_expected >= self.cosine_min)

    def __str__(self) -> str:
        near = "its target's floor" if self.cosine_min is None else f"a cosine minimum of {self.cosine_min:g}"
        return near if self.max_bytes is None else f"{near} within {self.max_bytes / 1e6:.1f} MB"


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Args:
        overwrite: replace what an earlier search or build left.
        prune: cut the vocabulary first.
        seed: parts the calibration texts; the same seed, machine and versions give the same choice, but for
            `fastest`, where timings within 5% count as equal.
        plan: how long to measure.
        witness: ask the checkpoint's own library whether it computes the same as the reference.
    """

    overwrite: bool = False
    prune: PruneOptions | None = None
    seed: int = 0
    plan: Procedure = _PLAN
    witness: bool = True


def search(
    checkpoint: Checkpoint,
    wish: Wish,
    out: str | Path,
    options: SearchOptions | None = None,
    progress: Progress = QUIET,
) -> Built:
    """Makes the form that `wish` asks for in `out/<its target>`, and what was found in `out/search`.

    Raises:
        WishError: no form is good enough; the message names the nearest, `out/search` has all of them.
        RingkasError: bad input; nothing is left half-written.
    """
    options, out = options or SearchOptions(), Path(out)
    require_engines([target(name) for name in TARGETS])
    if options.witness:
        require_witness(checkpoint)
    refuse_existing([out / name for name in (*TARGETS, SEARCH_FOLDER)], overwrite=options.overwrite)
    with pruned(checkpoint, options.prune, out, progress) as source:
        probe = _probe_of(replace(checkpoint, languages=source.languages), options, progress)
        with scratch_folder(out) as folder:
            record = {**asdict(wish), "seed": options.seed}
            texts = part_texts(source, options.seed)
            forms = FormMaker(source, probe, folder, record, wish.cosine_min).make(texts, progress)
            points = measure_forms(forms, options.plan, progress)
            chosen = choose(points, wish)
            frontier = Frontier(
                points=tuple(points), wish=record, texts_fitted=len(texts.fitting),
                texts_choosing=len(texts.choosing), chosen=chosen.name if chosen else None,
                best=tuple(one.name for one in best_of(points)), tools=tool_versions(),
            )  # fmt: skip
            with staged_folder(out / SEARCH_FOLDER, overwrite=options.overwrite) as place:
                write_frontier(frontier, place, progress)
            if chosen is None:
                raise unmet(points, wish, out / SEARCH_FOLDER)
            progress.say(f"chosen: {chosen.name}, {chosen.bytes / 1e6:.1f} MB")
            artifact = next(form.artifact for form in forms if form.name == chosen.name)
            with staged_folder(out / chosen.target, overwrite=options.overwrite) as place:
                for child in list(artifact.path.iterdir()):
                    shutil.move(child, place / child.name)
                report = judge_artifact(open_artifact(place), probe, progress)
    return Built(open_artifact(out / chosen.target), report)


def _probe_of(checkpoint: Checkpoint, options: SearchOptions, progress: Progress) -> Probe:
    kept = KeptProbe(checkpoint, witness=options.witness, progress=progress)
    return kept.find() or kept.made_by(
        lambda: reference_probe(checkpoint, checkpoint.languages, witness=options.witness, progress=progress)
    )


def choose(points: Sequence[Point], wish: Wish) -> Point | None:
    """The point that answers the wish, None where none does. Equal ones are parted by name."""
    allowed = sorted((one for one in points if wish.allows(one)), key=lambda one: (one.bytes, one.name))
    if not allowed:
        return None
    if wish.fastest:
        limit = _AS_FAST * min(one.milliseconds for one in allowed)
        return next(one for one in allowed if one.milliseconds <= limit)
    if wish.cosine_min is not None:
        return allowed[0]
    return max(allowed, key=lambda one: one.cosine_expected)


def unmet(points: Sequence[Point], wish: Wish, place: Path) -> WishError:
    """Names what comes nearest to a wish that no point answers."""
    small = [one for one in points if wish.is_small(one)]
    near = [one for one in points if wish.is_near(one)]
    nearest = []
    if small:
        nearest.append(
            f"the nearest so small is {_described(max(small, key=lambda one: one.cosine_expected))}"
        )
    else:
        nearest.append(f"the smallest is {_described(min(points, key=lambda one: one.bytes))}")
    if near:
        nearest.append(f"the smallest so near is {_described(min(near, key=lambda one: one.bytes))}")
    elif wish.max_bytes is not None or not small:
        nearest.append(
            f"the nearest of all is {_described(max(points, key=lambda one: one.cosine_expected))}"
        )
    return WishError(f"no form has {wish}", why="; ".join(nearest), fix=f"All that were found are in {place}")


def _described(point: Point) -> str:
    return f"{point.name} ({point.bytes / 1e6:.1f} MB, cosine minimum {point.cosine_expected:.5f} expected)"
