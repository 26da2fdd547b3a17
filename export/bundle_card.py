"""The README.md of a bundle: which variants there are, what each is worth, and how each is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ringkas.artifact import Manifest
from ringkas.export.client_notes import client_notes
from ringkas.export.finish import writer_of
from ringkas.export.model_card import front_matter, normalised, note, prompt_table, published, vocabulary_part
from ringkas.export.to_onnx.browser import DATA_SUFFIX, DTYPES
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.targets import target


def bundle_card(folder: Path, variants: Mapping[str, Manifest], reports: Mapping[str, ParityReport]) -> str:
    """Markdown with the front matter that model hubs read."""
    first = next(iter(variants.values()))
    spec = first.encoding
    return f"""{front_matter(first, tuple(variants))}
# {first.name}

Made by ringkas (`pip install ringkas`) from `{published(first)}`, {
        len(variants)
    } variants side by side. Each was
compared with the original here: `ringkas verify . --variant {
        first.target
    }` does it again on your machine, without
PyTorch.
{note(first.source.note)}
{_table(folder, variants, reports)}
Vectors have {spec.dimension} dimensions ({"+".join(spec.pooling.modes)} pooling{
        normalised(spec)
    }); the longest text is {spec.max_length} tokens; languages: {
        ", ".join(first.languages) or "the original's"
    }.

## Use it

```python
import ringkas

encoder = ringkas.load(PATH, variant="{first.target}")
vectors = encoder.encode_query(["how to fix a bicycle tyre"])
```
{_loaders(variants)}
{prompt_table(spec.prompts)}{_search(reports)}{vocabulary_part(first)}"""


def _table(folder: Path, variants: Mapping[str, Manifest], reports: Mapping[str, ParityReport]) -> str:
    lines = [
        "| variant | file | size | cosine min | cosine mean | top-10 kept | parity |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for name, manifest in variants.items():
        report, file = reports[name], folder / manifest.model_file
        data = file.with_name(f"{file.name}{DATA_SUFFIX}")
        size = file.stat().st_size + (data.stat().st_size if data.is_file() else 0)
        lines.append(
            f"| {name} | `{manifest.model_file}` | {size / 1e6:.1f} MB | {report.cosine_min:.4f} "
            f"| {report.cosine_mean:.4f} | {report.top10_overlap:.1%} "
            f"| {'holds' if report.passed else 'FALLS SHORT'} |"
        )
    return "\n".join(lines) + "\n"


def _loaders(variants: Mapping[str, Manifest]) -> str:
    """Each format's own part of a card, once, by the variant that is named first; then what holds for all."""
    parts = []
    formats: dict[str, Manifest] = {}
    for manifest in variants.values():
        formats.setdefault(target(manifest.target).format.writer, manifest)
    for manifest in formats.values():
        usage = writer_of(target(manifest.target)).card(manifest, Path())
        parts.append(f"\n### Without ringkas: `{manifest.model_file}`\n\n{usage}\n")
        if manifest.model_file.startswith("onnx/"):
            parts.append(_onnx_names(variants))
    return "".join(parts) + client_notes(next(iter(variants.values())))


def _onnx_names(variants: Mapping[str, Manifest]) -> str:
    names = [one.model_file for one in variants.values() if one.model_file.startswith("onnx/")]
    first = names[0]
    listed = ", ".join(f'`dtype: "{DTYPES[Path(name).name]}"` is `{name}`' for name in names)
    file = f'model_kwargs={{"file_name": "{first}"}}'
    return (
        f'\nIn sentence-transformers a graph is named: `SentenceTransformer(PATH, backend="onnx", {file})`. '
        f"In transformers.js, `from_pretrained(PATH, {{ dtype }})`: {listed}.\n"
    )


def _search(reports: Mapping[str, ParityReport]) -> str:
    rows = {name: {one.language: one for one in report.search} for name, report in reports.items()}
    languages = list(dict.fromkeys(language for found in rows.values() for language in found))
    if not languages:
        return ""
    any_row = next(iter(next(found for found in rows.values() if found).values()))
    lines = [
        "\n## Retrieval by language\n",
        f"nDCG@10 on ringkas's own {any_row.questions} questions and {any_row.passages} passages a language.",
        "So few questions resolve little: a hundredth is within chance.\n",
        "| language | original | " + " | ".join(rows) + " |",
        "|---|---:|" + "---:|" * len(rows),
    ]
    for language in languages:
        found = [one.get(language) for one in rows.values()]
        original = next(one.reference_ndcg_at_10 for one in found if one is not None)
        shown = ["" if one is None else f"{one.ndcg_at_10:.3f}" for one in found]
        lines.append(f"| {language} | {original:.3f} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"
