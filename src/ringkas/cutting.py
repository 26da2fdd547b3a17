"""Where a text far over the limit can be cut before it is tokenised, with a proof that no id changes.

Of a text of megabytes the first few hundred tokens are kept. They are those of a beginning of it, if that
ends between a letter or digit and a single space that another letter or digit follows, and if

- every step of the normalizer maps characters by themselves or within a grapheme, and that boundary is one;
- the pre-tokenizer parts words there, and the model sees one word at a time;
- no added token has a space in it, so that none lies across the cut;
- that beginning alone has as many tokens as are kept.

The first three are judged by the tokenizer's own description: what is not known here is not cut. The last is
counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

# Normalizers that never look across the boundary. Strip and Prepend work at a text's ends, which no cut makes
# other: the beginning stays, and the end has no white space.
_LOCAL_NORMALIZERS = frozenset(
    {
        "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Strip",
        "StripAccents",
    }
)  # fmt: skip
_LOCAL_REPLACEMENTS = ({"Regex": " {2,}"},)
_PARTS_AT_SPACES = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_PARTS_ELSEWHERE = frozenset({"Digits", "Punctuation", "UnicodeScripts"})

# Letters that Unicode joins with what follows into one grapheme (Grapheme_Cluster_Break=Prepend).
_JOINING = "\u0d4e\U000111c2\U000111c3\U000113d1\U0001193f\U00011941\U00011a3a\U00011d46\U00011f02" + "".join(
    map(chr, range(0x11A84, 0x11A8A))
)
_BOUNDARY = re.compile(rf"(?<=[^\W_{_JOINING}]) (?=[A-Za-z0-9])")


def may_cut(tokenizer: Tokenizer, added: Iterable[str]) -> bool:
    """Whether a beginning that ends at a boundary has the same tokens as in the whole text."""
    return (
        all(map(_is_local, _steps(tokenizer.normalizer, "normalizers")))
        and _parts_at_spaces(list(_steps(tokenizer.pre_tokenizer, "pretokenizers")))
        and not any(character.isspace() for token in added for character in token)
    )


def boundary(text: str, start: int) -> int:
    """The first place from `start` on where `text` may be cut; its length where there is none."""
    found = _BOUNDARY.search(text, start)
    return found.start() if found else len(text)


def _steps(component: Any, parts: str) -> Iterator[Mapping[str, Any]]:
    """The parts of a component, those of sequences one by one."""
    if component is not None:
        yield from _flat(json.loads(component.__getstate__()), parts)


def _flat(state: Mapping[str, Any], parts: str) -> Iterator[Mapping[str, Any]]:
    if state["type"] == "Sequence":
        for part in state[parts]:
            yield from _flat(part, parts)
    else:
        yield state


def _is_local(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        pattern = step["pattern"]
        return pattern in _LOCAL_REPLACEMENTS or len(pattern.get("String", "  ")) == 1
    return step["type"] in _LOCAL_NORMALIZERS


def _parts_at_spaces(steps: list[Mapping[str, Any]]) -> bool:
    kinds = [_parts(step) for step in steps]
    return None not in kinds and True in kinds


def _parts(step: Mapping[str, Any]) -> bool | None:
    """Whether a pre-tokenizer parts words at every space; None for one that is not known here."""
    kind = step["type"]
    if kind == "Metaspace":
        return bool(step.get("split", True))
    if kind == "ByteLevel":
        return bool(step.get("use_regex", True))
    if kind in _PARTS_AT_SPACES:
        return True
    return False if kind in _PARTS_ELSEWHERE else None
