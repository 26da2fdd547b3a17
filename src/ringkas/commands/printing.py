"""What the command line prints for people, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ringkas.artifact import Artifact
    from ringkas.cache import Entry
    from ringkas.doctor import Diagnosis
    from ringkas.runtimes.evaluate.evaluate import EvaluationReport
    from ringkas.runtimes.measure.bench import BenchResult
    from ringkas.runtimes.measure.compare import Comparison
    from ringkas.runtimes.parity.judge import ParityReport

_SCORES = {"ndcg_at_10": "nDCG@10", "mrr_at_10": "MRR@10", "recall_at_100": "recall@100"}


# What the manifest records of a scheme, but is too long for a table.
_SCHEME_DETAILS = ("input_scales", "plan")


def print_built(rows: Iterable[tuple[Artifact, ParityReport]]) -> None:
    """One line an artifact: where it is, its size, and how near it is to the reference."""
    table = _table("artifact", "size", "cosine min", "mean", "top-10", "parity")
    executions = []
    for artifact, report in rows:
        if artifact.manifest.execution:
            executions.append(f"{artifact.path}: {artifact.manifest.execution}. Judged by {report.engine}.")
        table.add_row(
            str(artifact.path),
            megabytes(artifact.size),
            f"{report.cosine_min:.6f}",
            f"{report.cosine_mean:.6f}",
            f"{report.top10_overlap:.3f}",
            _verdict(report.passed),
        )
    _print(table)
    for line in executions:
        print(line)


def print_report(report: ParityReport) -> None:
    """A parity report: one line a language, then the whole."""
    title = f"{report.target} against {report.reference}, {report.texts} texts"
    columns = ("cosine min", "1st pct.", "mean", "centred min", "centred mean", "ids differ", "worst text")
    table = _table("language", "texts", *columns, title=title)
    for group in report.groups:
        table.add_row(
            group.group,
            str(group.texts),
            f"{group.cosine_min:.6f}",
            f"{group.cosine_p1:.6f}",
            f"{group.cosine_mean:.6f}",
            f"{group.centred_min:.6f}",
            f"{group.centred_mean:.6f}",
            str(group.token_mismatches),
            group.worst_text[:30],
        )
    _print(table)
    skipped = f", {report.skipped} skipped as not covered by the vocabulary" if report.skipped else ""
    print(
        f"top-10 overlap {report.top10_overlap:.4f}, Spearman {report.spearman:.6f} "
        f"({report.ranked_texts} texts{skipped})"
    )
    print(f"floor: cosine min {report.floor.cosine_min}, mean {report.floor.cosine_mean}: ", end="")
    print("parity holds" if report.passed else "parity FALLS SHORT")
    for failure in report.failures:
        print(f"  {failure}")
    print_search(report)


def print_search(report: ParityReport) -> None:
    """What the artifact is worth at search: one line a language."""
    if not report.search:
        return
    first = report.search[0]
    title = f"search: {first.questions} questions, {first.passages} passages a language"
    table = _table("language", "nDCG@10", "reference", "difference (95%)", "top 10 kept", title=title)
    for one in report.search:
        table.add_row(
            one.language,
            f"{one.ndcg_at_10:.3f}",
            f"{one.reference_ndcg_at_10:.3f}",
            f"{one.ndcg_at_10 - one.reference_ndcg_at_10:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
            f"{one.top10_overlap:.3f}",
        )
    _print(table)


def print_bench(result: BenchResult) -> None:
    """Size and fidelity, single texts, throughput; a row whose parity fell short is struck through."""
    from ringkas.runtimes.measure.table import remarks, tables

    for cells in tables(result):
        table = _table(*cells.heads, title=cells.title)
        for line in cells.lines:
            name = f"{line.cells[0]} FALLS SHORT" if line.struck else line.cells[0]
            table.add_row(name, *line.cells[1:], style="strike" if line.struck else None)
        _print(table)
    for remark in remarks(result):
        print(remark)


def print_comparison(comparison: Comparison) -> None:
    """One line a subject and case, the slowdowns marked, and the verdict."""
    table = _table("", "case", "time after / before", "interval", "")
    for change in comparison.changes:
        low, high = change.ratio.low or 0.0, change.ratio.high or float("inf")
        table.add_row(
            change.name,
            change.case,
            f"{change.ratio.value:.3f}",
            f"{low:.3f} to {high:.3f}",
            "SLOWER" if change.slower else "",
        )
    _print(table)
    if comparison.machine_ratio is not None:
        print(
            f"The machine itself took {comparison.machine_ratio:.2f} times as long after as before; "
            "the ratios are free of that."
        )
    for name in comparison.fidelity_lost:
        print(f"{name} held its parity before and FALLS SHORT after.")
    print("Slower." if comparison.slower else "No slowdown beyond chance.")


def print_evaluation(report: EvaluationReport) -> None:
    """One line a score: the artifact's, the reference's, and the difference with its 95% interval."""
    reference = report.reference or "no reference"
    table = _table("", report.target, reference, "difference", "95% interval")
    retrieval, similarity = report.retrieval, report.similarity
    if retrieval is not None:
        for name, title in _SCORES.items():
            own, base, difference, low, high = (
                getattr(scores, name, None)
                for scores in (
                    retrieval.artifact,
                    retrieval.reference,
                    retrieval.difference,
                    retrieval.difference_low,
                    retrieval.difference_high,
                )
            )
            interval = "" if low is None else f"{low:+.4f} to {high:+.4f}"
            table.add_row(title, _score(own), _score(base), _score(difference, "+.4f"), interval)
    if similarity is not None:
        difference = _score(similarity.difference, "+.4f")
        table.add_row("Spearman", _score(similarity.artifact), _score(similarity.reference), difference, "")
    _print(table)
    if retrieval is not None:
        print(f"{retrieval.queries} queries, {retrieval.documents} documents: {retrieval.folder}")
        if retrieval.left_out:
            print(f"{retrieval.left_out} queries bear a document's id: it is left out of their rankings")
    if similarity is not None:
        print(f"{similarity.pairs} pairs: {similarity.file}")
    if report.parity is False:
        print("the artifact's parity FALLS SHORT")


def print_vocabulary(certificate: Mapping[str, Any]) -> None:
    """The certificate of a pruned vocabulary, one line a language."""
    from ringkas.export.vocabulary.certificate import predicted

    rows, parameters, size = certificate["rows"], certificate["parameters"], certificate["bytes"]
    print(
        f"{rows['after']:,.0f} of {rows['before']:,.0f} rows kept, "
        f"{parameters['after'] / 1e6:.1f} of {parameters['before'] / 1e6:.1f} million parameters, "
        f"{megabytes(int(size['before'] - size['after']))} saved"
    )
    table = _table(
        "language", "judged on", "texts", "identical", "predicted", "tokens kept", "new unknown characters"
    )
    for language, report in certificate["by_language"].items():
        unknown = report["unknown_characters"]
        table.add_row(
            language,
            report["text"],
            str(report["texts"]),
            f"{report['identical']:.1%}",
            predicted(report),
            f"{report['tokens_kept']:.2%}",
            f"{unknown['after'] - unknown['before']:.0f}",
        )
    _print(table)
    print(certificate["theorem"])


def print_artifact(artifact: Artifact) -> None:
    """`ringkas inspect`."""
    manifest, spec = artifact.manifest, artifact.manifest.encoding
    report = artifact.parity()
    parity = "not verified yet"
    if report is not None:
        parity = f"{_verdict(report.passed)}: cosine min {report.cosine_min:.6f} ({report.reference})"
    rows = {
        "name": f"{manifest.name}, {manifest.target} ({manifest.engine})",
        "source": f"{manifest.source.model} {manifest.source.revision or ''}".strip(),
        "licence": manifest.source.licence or "not stated",
        "languages": ", ".join(manifest.languages) or "those of the source",
        "vectors": f"{spec.dimension} dimensions, {'+'.join(spec.pooling.modes)} pooling"
        + (", normalised" if spec.normalize else ""),
        "longest text": f"{spec.max_length} tokens",
        "prompts": ", ".join(spec.prompts) or "none",
        "size": f"{megabytes(artifact.size)} in {len(manifest.files)} files",
        "scheme": ", ".join(
            f"{key} {value}" for key, value in manifest.scheme.items() if key not in _SCHEME_DETAILS
        ),
        "parity": parity,
    }
    if manifest.execution:
        rows["plan"] = manifest.execution
    if manifest.vocabulary is not None:
        kept = manifest.vocabulary["rows"]
        rows["vocabulary"] = f"{kept['after']:,.0f} of {kept['before']:,.0f} rows"
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        table.add_row(key, value)
    _print(table)


def print_diagnosis(diagnosis: Diagnosis, verdict: str = "") -> None:
    """`ringkas doctor`; `verdict` says what its measurement of 8-bit products means."""
    features = " ".join(diagnosis.cpu_features) or "features unknown"
    print(f"{diagnosis.machine}, {diagnosis.cores} cores ({features})")
    if diagnosis.providers:
        print("ONNX Runtime providers: " + ", ".join(diagnosis.providers))
    if verdict:
        print(verdict)
    print(f"Telemetry: {diagnosis.telemetry}")
    table = _table("what", "here", "install with")
    for part in diagnosis.parts:
        versions = ", ".join(f"{name} {version}" for name, version in part.versions.items())
        here = versions or "yes" if part.ready else part.problem or "no"
        table.add_row(part.purpose, here, "" if part.ready else part.install)
    _print(table)


def print_cache(entries: Sequence[Entry], *, cleared: bool) -> None:
    """`ringkas cache`."""
    from ringkas.cache import kept_folder, most_bytes  # what it needs, no other table waits for

    total = megabytes(sum(entry.bytes for entry in entries))
    if cleared:
        print(f"{len(entries)} results, {total}, let go of")
        return
    if entries:
        table = _table("kept", "size", "last used")
        for entry in entries:
            table.add_row(entry.kind, megabytes(entry.bytes), f"{entry.used:%Y-%m-%d %H:%M} UTC")
        _print(table)
    print(f"{total} of at most {megabytes(most_bytes())} kept in {kept_folder()}")


def megabytes(size: int) -> str:
    """Bytes as decimal megabytes."""
    return f"{size / 1e6:.1f} MB"


def _score(value: float | None, form: str = ".4f") -> str:
    return "" if value is None else format(value, form)


def _verdict(passed: bool) -> str:
    return "holds" if passed else "FALLS SHORT"


def _table(first: str, *others: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _print(table: Table) -> None:
    # Texts and paths are shown as they are: a bracket is no markup. In a pipe or a log there is no width to
    # fit.
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, width=200)
    console.print(table)
