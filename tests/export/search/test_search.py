"""The search: what it chooses, what it says when nothing will do, and that the judge is not the chooser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ringkas import load, open_artifact
from ringkas.artifact import seal
from ringkas.cli import cli
from ringkas.commands.wishes import parse_size
from ringkas.errors import TargetError
from ringkas.export.search.forms import expected_least, part_texts
from ringkas.export.search.frontier import Point, best_of
from ringkas.export.search.search import Wish, choose, unmet
from ringkas.quantize.for_onnx import ladder
from ringkas.runtimes.measure.rounds import Interval
from ringkas.runtimes.parity.probe import load_probe


def point(name: str, megabytes: float, cosine: float, milliseconds: float) -> Point:
    return Point(
        name=name,
        target="onnx-int4",
        bytes=int(megabytes * 1e6),
        cosine_min=cosine,
        cosine_mean=0.999,
        cosine_expected=cosine,
        latency={"8 tokens": Interval(milliseconds, 0, 0, 0, 0, 9)},
        scheme={},
    )


POINTS = [
    point("small", 10, 0.96, 1.0),
    point("middle", 14, 0.985, 0.9),
    point("quick", 18, 0.98, 0.87),
    point("near", 25, 0.995, 2.0),
    point("too far", 5, 0.90, 0.1),  # below the 4-bit floor, whatever the wish
]


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        (Wish(cosine_min=0.97), "middle"),
        (Wish(cosine_min=0.99), "near"),
        (Wish(max_bytes=20_000_000), "middle"),
        (Wish(max_bytes=12_000_000), "small"),
        (Wish(fastest=True), "middle"),  # within 5% of the fastest, and smaller
        (Wish(cosine_min=0.99, fastest=True), "near"),
        (Wish(cosine_min=0.96, max_bytes=12_000_000), "small"),
    ],
)
def test_the_wish_decides(wish: Wish, chosen: str) -> None:
    for points in (POINTS, POINTS[::-1]):
        found = choose(points, wish)
        assert found is not None
        assert found.name == chosen


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (
            Wish(cosine_min=0.99999, max_bytes=12_000_000),
            ("0.99999 within 12.0 MB", "nearest so small is small", "nearest of all is near"),
        ),
        (Wish(cosine_min=0.99, max_bytes=12_000_000), ("the smallest so near is near (25.0 MB",)),
        (
            Wish(max_bytes=1_000_000),
            ("no form has its target's floor within 1.0 MB", "the smallest is too far (5.0 MB"),
        ),
    ],
)
def test_an_impossible_wish_names_the_nearest(wish: Wish, said: tuple[str, ...]) -> None:
    assert choose(POINTS, wish) is None
    for words in said:
        assert words in str(unmet(POINTS, wish, Path("dist/search")))


@pytest.mark.parametrize("wish", [{}, {"cosine_min": 1.0}, {"cosine_min": -1.0}, {"max_bytes": 0}])
def test_what_is_no_wish_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(TargetError):
        Wish(**wish)


def test_the_least_of_many_is_expected_below_the_least_of_few() -> None:
    assert expected_least(np.array([0.98, *19 * [0.99]])) == pytest.approx(0.96)
    assert 0.96 < expected_least(np.array([0.98, *499 * [0.99]])) < 0.98
    assert expected_least(np.ones(20)) == 1.0


def test_best_of_leaves_out_what_another_beats() -> None:
    beaten = point("beaten", 15, 0.984, 0.95)
    assert [one.name for one in best_of([*POINTS[:4], beaten])] == ["small", "middle", "quick", "near"]


def test_the_most_sensitive_come_first_for_each_weight() -> None:
    losses, weights = {"a": 0.4, "b": 0.3, "c": 0.2}, {"a": 100, "b": 10, "c": 10}
    assert ladder.most_sensitive(losses, weights, 0.0) == ()
    assert ladder.most_sensitive(losses, weights, 0.1) == ("b",)
    assert ladder.most_sensitive(losses, weights, 0.2) == ("b", "c")
    assert ladder.most_sensitive(losses, weights, 1.0) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("stated", "size"), [("25MB", 25_000_000), ("1.5 GiB", 1_610_612_736), ("12", 12), ("3kb", 3000)]
)
def test_sizes(stated: str, size: int) -> None:
    assert parse_size(stated) == size


@pytest.mark.parametrize("stated", ["", "MB", "25 bananas", "-3MB", "1e6"])
def test_no_size(stated: str) -> None:
    with pytest.raises(TargetError, match="is no size"):
        parse_size(stated)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="ringkas")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "onnx-int8", "--min-cosine", "0.9"], "--min-cosine takes the place of --target."),
        (["--target", "onnx-int8", "--scheme", "x.toml"], "--scheme takes the place of --target."),
        (["--scheme", "x.toml", "--fastest"], "--fastest takes the place of --scheme."),
        (["--min-cosine", "0"], "a cosine minimum of 0.0 cannot be met"),
        (["--max-size", "small"], "'small' is no size"),
        (["--scheme", "absent.toml"], "cannot read absent.toml"),
    ],
)
def test_bad_wishes_are_bad_input(options: list[str], said: str, tmp_path: Path) -> None:
    result = run("build", "demo", *options, "--out", tmp_path / "dist")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "dist").exists()


def test_an_unmet_wish_is_one_line_and_exit_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object) -> None:
        raise unmet(POINTS, Wish(cosine_min=0.99999, max_bytes=12_000_000), tmp_path / "search")

    monkeypatch.setattr("ringkas.export.search.search.search", search)
    result = run("build", "demo", "--min-cosine", "0.99999", "--max-size", "12MB", "--out", tmp_path / "dist")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "the nearest so small is small (10.0 MB" in result.stderr


def test_an_unmet_wish_in_json_is_an_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object) -> None:
        raise unmet(POINTS, Wish(max_bytes=1_000_000), tmp_path / "search")

    monkeypatch.setattr("ringkas.export.search.search.search", search)
    result = run("build", "demo", "--max-size", "1MB", "--out", tmp_path / "dist", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == []
    assert "the smallest is too far" in result.stderr


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(width=64, max_length=64)


@pytest.fixture(scope="module")
def searched(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("searched") / "dist"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "CODED_SHARES", (0.15,))
        patch.setattr(ladder, "WIDE_SHARES", (0.0, 1.0))
        patch.setattr(ladder, "FLOAT_SHARES", (0.0,))
        return out, run("build", checkpoint, "--min-cosine", 0.97, "--out", out, "--json")


def test_a_search_leaves_an_artifact_and_the_frontier(searched: tuple[Path, Result]) -> None:
    out, result = searched
    assert result.exit_code == 0, result.stderr
    frontier = json.loads((out / "search" / "frontier.json").read_text())
    assert (out / "search" / "frontier.png").stat().st_size > 10_000
    chosen = next(one for one in frontier["points"] if one["name"] == frontier["chosen"])
    assert sorted(path.name for path in out.iterdir()) == sorted(["search", chosen["target"]])
    artifact = open_artifact(out / chosen["target"])
    assert artifact.size == chosen["bytes"]
    assert artifact.manifest.scheme == chosen["scheme"]
    assert len(frontier["points"]) == 6
    assert {one["target"] for one in frontier["points"]} >= {"onnx-int3", "onnx-int4", "onnx-int8"}
    assert all(one["latency"] for one in frontier["points"])
    # The smallest that is near enough: every smaller one falls short.
    for one in frontier["points"]:
        assert one["bytes"] >= chosen["bytes"] or one["cosine_expected"] < 0.97
    assert json.loads(result.stdout)[0]["path"] == str(artifact.path)


def test_the_promise_judges_the_artifact_from_then_on(searched: tuple[Path, Result]) -> None:
    out, _ = searched
    (place,) = (path for path in out.iterdir() if path.name != "search")
    assert open_artifact(place).manifest.promised_cosine_min == 0.97
    report = json.loads(run("verify", place, "--json").stdout)
    assert report["floor"]["cosine_min"] >= 0.97


def test_a_promise_that_is_not_kept_fails(searched: tuple[Path, Result], tmp_path: Path) -> None:
    import shutil

    out, _ = searched
    (place,) = (path for path in out.iterdir() if path.name != "search")
    broken = Path(shutil.copytree(place, tmp_path / place.name))
    manifest = open_artifact(broken).manifest
    promised = msgspec.structs.replace(manifest, promised_cosine_min=0.9999999)
    seal(broken, promised)
    assert run("verify", broken).exit_code == 1


def test_what_chooses_is_neither_what_fits_nor_what_judges(
    checkpoint: Path, searched: tuple[Path, Result]
) -> None:
    from ringkas import open_checkpoint

    parts = part_texts(open_checkpoint(checkpoint), seed=0)
    fitting, choosing = ({tuple(row) for row in part} for part in (parts.fitting, parts.choosing))
    assert not fitting & choosing
    again = part_texts(open_checkpoint(checkpoint), seed=0)
    assert (again.fitting, again.choosing) == (parts.fitting, parts.choosing)
    assert part_texts(open_checkpoint(checkpoint), seed=1).choosing != parts.choosing
    out, _ = searched
    (place,) = (path for path in out.iterdir() if path.name != "search")
    with load(place) as encoder:
        judged = {tuple(row) for row in encoder.tokenizer.encode(load_probe(place).texts)}
    # Of the tiny vocabulary some texts are all unknown: the ids of short ones may meet by chance.
    assert len(judged & choosing) <= 2
