"""The texts that clients are asked for, by kind, and what the facade gives for them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.spec import EncodingSpec

KOREAN = ("비밀번호를 잊어버렸는데 어떻게 재설정하나요?", "배송이 사흘째 오지 않습니다.")
ENGLISH = ("How do I reset my password?", "The parcel has not come for three days.")
THAI = ("ฉันจะรีเซ็ตรหัสผ่านได้อย่างไร",)
EMOJI = ("good morning 🙂👍🏽, family 👨‍👩‍👧 and 🇰🇷",)
SPACES = ("  two spaces before, and after   ", "a line\n")
QUERY, DOCUMENT = "how to fix a bicycle tyre", "Take the tyre off the rim, then look for the hole."


@dataclass(frozen=True)
class Case:
    """One text to ask for.

    Args:
        kind: what is particular about it.
        verb: `encode`, `encode_query` or `encode_document`.
        prompt: what the facade puts before it.
        text: the text.
        ids: its token ids, prompt and special tokens included.
    """

    kind: str
    verb: str
    prompt: str
    text: str
    ids: tuple[int, ...] = ()


def cases(encoder: Encoder, spec: EncodingSpec, specials: Iterable[str]) -> list[Case]:
    """All cases for a model: its prompts, its limit, its special tokens."""
    kinds: Mapping[str, Sequence[str]] = {
        "Korean": KOREAN,
        "English": ENGLISH,
        "Thai": THAI,
        "emoji": EMOJI,
        "empty": ("",),
        "white space at both ends": SPACES,
        "specials written out": ("before " + " ".join(specials) + " after",),
        "NFD": (unicodedata.normalize("NFD", KOREAN[0]),),
        "over the limit": (" ".join(f"word {number}" for number in range(spec.max_length)),),
    }
    found = [Case(kind, "encode", "", text) for kind, texts in kinds.items() for text in texts]
    query, document = (
        spec.prompts.get(name or "", "") for name in (spec.query_prompt(), spec.document_prompt())
    )
    found += [Case("query prompt", "encode_query", query, text) for text in (QUERY, KOREAN[0])]
    found += [Case("document prompt", "encode_document", document, text) for text in (DOCUMENT, KOREAN[1])]
    ids = encoder.tokenizer.encode([case.prompt + case.text for case in found])
    return [Case(**{**asdict(case), "ids": tuple(row)}) for case, row in zip(found, ids, strict=True)]


def expected(encoder: Encoder, asked: Sequence[Case]) -> list[Any]:
    """The facade's vector of each case, by the verb."""
    verbs = {"encode": encoder.encode, "encode_query": encoder.encode_query}
    verbs["encode_document"] = encoder.encode_document
    vectors: list[Vectors] = [verbs[case.verb]([case.text])[0] for case in asked]
    return vectors
