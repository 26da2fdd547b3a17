"""What users of other programs must know, for the model card: by client, only where it applies.

Each was seen with an artifact of multilingual-e5-small: docs/clients.md has the versions and the cosines.
"""

from __future__ import annotations

from ringkas.artifact import Manifest
from ringkas.spec import EncodingSpec

# sentence-transformers adds prompts by verb; these programs do so only when told.
_PROMPTS = """LangChain and LlamaIndex add no prompt of their own accord:

```
HuggingFaceEmbeddings(model_name=PATH{langchain})
HuggingFaceEmbedding(PATH{llama_index})
```
"""
# Decomposed Hangul has other tokens than composed; `tokenizer.json` says which, and some clients compose it.
_NORMAL_FORM = """Compose text to Unicode's NFC first where it may be decomposed, as file names of macOS are:
transformers.js and llama.cpp read decomposed letters, Hangul above all, otherwise than the original does.
"""


def client_notes(manifest: Manifest) -> str:
    """Markdown for the end of "Without ringkas"; what is one format's alone is in that format's own part."""
    return "\n" + "\n".join(part for part in (_prompts(manifest.encoding), _NORMAL_FORM) if part)


def _prompts(spec: EncodingSpec) -> str:
    names = {"query": spec.query_prompt(), "document": spec.document_prompt()}
    stated = {verb: name for verb, name in names.items() if name and spec.prompts[name]}
    if not stated:
        return ""
    encode = {"document": "encode_kwargs", "query": "query_encode_kwargs"}
    instruction = {"document": "text_instruction", "query": "query_instruction"}
    return _PROMPTS.format(
        langchain="".join(f', {encode[verb]}={{"prompt_name": "{verb}"}}' for verb in stated),
        llama_index="".join(f", {instruction[verb]}={spec.prompts[name]!r}" for verb, name in stated.items()),
    )
