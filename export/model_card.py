"""The README.md of an artifact, written from its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringkas.artifact import Manifest
from ringkas.builtin import published_name
from ringkas.export.client_notes import client_notes
from ringkas.export.vocabulary.certificate import to_markdown
from ringkas.spec import EncodingSpec

# These lose nothing that a search could show.
_WIDE = ("fp32", "fp16", "bf16")


def model_card(manifest: Manifest, usage: str) -> str:
    """Markdown with the front matter that model hubs read; `usage` says how to do without ringkas."""
    spec = manifest.encoding
    base = published(manifest)
    normalized = normalised(spec)
    revision = f" at revision `{manifest.source.revision}`" if manifest.source.revision else ""
    return f"""{front_matter(manifest, (manifest.target,))}
# {manifest.name}, {manifest.target}

Made by ringkas (`pip install ringkas`) from `{base}`{revision}. How near its vectors are to the original's
is measured in `parity.json`; `ringkas verify .` measures it again on your machine, without PyTorch.
{note(manifest.source.note)}
| | |
|---|---|
| vectors | {spec.dimension} dimensions, {"+".join(spec.pooling.modes)} pooling{normalized} |
| longest text | {spec.max_length} tokens |
| languages | {", ".join(manifest.languages) or "those of the original"} |
{_execution(manifest)}
## Use it

```python
import ringkas

encoder = ringkas.load(PATH)
vectors = encoder.encode_query(["how to fix a bicycle tyre"])
```

Without ringkas:

{usage}
{client_notes(manifest)}{prompt_table(spec.prompts)}{vocabulary_part(manifest)}{_search(manifest)}"""


def normalised(spec: EncodingSpec) -> str:
    """What follows "pooled" in a sentence about the vectors."""
    return ", normalised" if spec.normalize else ""


def published(manifest: Manifest) -> str:
    """The name of the model that it was made from, as a hub has it."""
    return published_name(manifest.source.model)


def front_matter(manifest: Manifest, targets: Sequence[str]) -> str:
    """What model hubs read of a card of these targets."""
    base = published(manifest)
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    if "/" in base and not base.startswith((".", "/", "~")):
        lines += [f"base_model: {base}", "base_model_relation: quantized"]
    if manifest.source.licence:
        lines.append(f"license: {manifest.source.licence}")
    if manifest.languages:
        lines += ["language:", *(f"- {language}" for language in manifest.languages)]
    lines += ["tags:", "- ringkas", *(f"- {target}" for target in targets), "---"]
    return "\n".join(lines)


def note(text: str) -> str:
    """What a reader must know of the weights, set in bold."""
    return f"\n**{text}**\n" if text else ""


def _execution(manifest: Manifest) -> str:
    return f"| plan | {manifest.execution} |\n" if manifest.execution else ""


def vocabulary_part(manifest: Manifest) -> str:
    """The certificate of a vocabulary that was cut."""
    return "\n" + to_markdown(manifest.vocabulary) if manifest.vocabulary else ""


def _search(manifest: Manifest) -> str:
    """A table for an artifact that may have lost something: a vocabulary that was cut, or fewer bits."""
    if not manifest.search or (manifest.vocabulary is None and manifest.precision in _WIDE):
        return ""
    first = manifest.search[0]
    lines = [
        "\n## What it costs at search\n",
        f"nDCG@10 on ringkas's own {first['questions']} questions and {first['passages']} passages",
        "a language, beside the original's.",
        "So few questions resolve little: the interval is that of the difference, at 95%.\n",
        "| language | nDCG@10 | original | difference | top 10 kept |",
        "|---|---:|---:|---|---:|",
    ]
    for row in manifest.search:
        before, after = row["reference_ndcg_at_10"], row["ndcg_at_10"]
        lines.append(
            f"| {row['language']} | {after:.3f} | {before:.3f} | {after - before:+.3f} "
            f"({row['low']:+.3f} to {row['high']:+.3f}) | {row['top10_overlap']:6.1%} |"
        )
    return "\n".join(lines) + "\n"


def prompt_table(prompts: Mapping[str, str]) -> str:
    """The prompts that say something, by name."""
    stated = {name: text for name, text in prompts.items() if text}
    if not stated:
        return ""
    rows = [f"| {name} | `{text}` |".replace("\n", "\\n") for name, text in stated.items()]
    return "\n## Prompts\n\n| name | put before the text |\n|---|---|\n" + "\n".join(rows) + "\n"
