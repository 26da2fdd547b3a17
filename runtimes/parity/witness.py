"""The witness: the checkpoint's own library, which our reading of the checkpoint must agree with.

An artifact is compared with the reference, and the reference is our reading of a folder: pooling, limits,
prompts, the tokenizer's settings. Where that is wrong, parity holds all the same. So the installed
sentence-transformers opens the same folder and encodes the same texts, by its own code from the first byte
to the last. For a plain transformers folder `AutoModel` and `AutoTokenizer` do, with the pooling that was
assumed.

It comes in two steps, so that two copies of the weights are never in memory: `claim` asks the reference, and
`hear` the library once the reference is closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

import msgspec
import numpy as np

from ringkas import texts as text_sets
from ringkas.artifact import Witness
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, RingkasError
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import Encoder, load_reference_encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.libraries import LIBRARIES, Call, Library, fast_ids
from ringkas.runtimes.parity.odd_texts import OddText, odd_texts
from ringkas.runtimes.unused_tensors import remark_on
from ringkas.tokens import TOKENIZER_FILE

# The largest difference of a component, relative to the largest component of all where that is above 1.
TOLERANCE = 1e-5
# Texts of each group of the probe whose vectors are compared as well; of all, token ids are.
VECTORS_PER_GROUP = 2
# A text of more tokens has its ids compared, not its vectors: 8,192 take a large encoder a minute.
MOST_TOKENS = 640
NOBODY = Witness(library="none", notes=("left out with --no-witness",))
TOO_LARGE = Witness(
    library="none",
    notes=("the checkpoint is larger than the memory, which its own library would need whole",),
)
_SAMPLE = "What is the capital of Malaysia?"


@dataclass(frozen=True)
class Claim:
    """What the reference says: `ids[i]` of `texts[i]`, and vectors of some of them."""

    texts: tuple[OddText, ...]
    ids: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]
    vectors: Vectors
    calls: tuple[Call, ...] = ()


def claim(checkpoint: Checkpoint, encoder: Encoder, groups: Mapping[str, Sequence[str]]) -> Claim:
    """Asks the reference `encoder` of `checkpoint`: all `groups` of texts by language, and the odd ones."""
    plain = [
        OddText(f"text {number} of {group!r}", text, "the tokenizer", by_class=group == "und")
        for group, texts in groups.items()
        for number, text in enumerate(texts)
    ]
    sampled = [row for row, odd in enumerate(plain) if int(odd.kind.split()[1]) < VECTORS_PER_GROUP]
    texts = plain + odd_texts(checkpoint.spec.max_length, _specials(checkpoint))
    ids = [tuple(row) for row in encoder.tokenizer.encode([odd.text for odd in texts])]
    rows = [row for row in [*sampled, *range(len(plain), len(texts))] if len(ids[row]) <= MOST_TOKENS]
    vectors = encoder.encode_ids([ids[row] for row in rows])
    return Claim(tuple(texts), tuple(ids), tuple(rows), vectors, tuple(_calls(encoder)))


def examine(checkpoint: Checkpoint, languages: Iterable[str], progress: Progress = QUIET) -> Witness:
    """`claim` and `hear` in one, for what needs no reference else. Raises as `hear` does."""
    with load_reference_encoder(checkpoint) as encoder:
        claimed = claim(checkpoint, encoder, text_sets.probe(languages))
        remarks = remarks_on(checkpoint, encoder)
    heard = hear(checkpoint, claimed, progress)
    return say(msgspec.structs.replace(heard, notes=(*remarks, *heard.notes)), progress)


def remarks_on(checkpoint: Checkpoint, encoder: Encoder) -> tuple[str, ...]:
    """What was not understood of a checkpoint, and which of its tensors the reference `encoder` left out."""
    unused = remark_on(getattr(encoder.engine, "unused", ()))
    return checkpoint.remarks if unused is None else (*checkpoint.remarks, unused)


def say(witness: Witness, progress: Progress) -> Witness:
    """Says the notes; returns the witness."""
    for note in witness.notes:
        progress.say(f"note: {note}")
    return witness


def hear(checkpoint: Checkpoint, claim: Claim, progress: Progress = QUIET) -> Witness:
    """What the library says of a claim.

    Raises:
        CheckpointError: the library refuses the folder, or computes something else.
        RingkasError: it is not installed.
    """
    if not claim.rows or len(claim.rows) != len(claim.vectors) or len(claim.texts) != len(claim.ids):
        raise RingkasError("the witness was shown no text", why="zero texts prove nothing")
    with progress.stage(f"asking {LIBRARIES[_kind_of(checkpoint)].name} whether it computes the same"):
        return _hear(checkpoint, claim)


def _hear(checkpoint: Checkpoint, claim: Claim) -> Witness:
    library = _open(checkpoint)
    notes = list(library.notes)
    theirs = library.token_ids([odd.text for odd in claim.texts])
    differing = [row for row, ids in enumerate(claim.ids) if list(ids) != theirs[row]]
    if differing:
        notes.append(_by_class(checkpoint, claim, differing, library, theirs))
    rows = [(place, row) for place, row in enumerate(claim.rows) if row not in set(differing)]
    if not rows:
        raise CheckpointError(f"{library.name} makes other token ids of every text of {checkpoint.root}")
    their_vectors = library.encode([claim.texts[row].text for _, row in rows])
    worst, where = _worst(claim.vectors[[place for place, _ in rows]], their_vectors, checkpoint)
    if not worst <= TOLERANCE:
        raise CheckpointError(
            f"{library.name} computes other vectors from {checkpoint.root}",
            why=f"{claim.texts[rows[where][1]].kind} differs by {worst:.2g}, though its token ids are equal",
            fix="Most likely read otherwise: pooling, normalisation, a Dense module, or config.json. "
            + _REPORT,
        )
    _compare_prompts(checkpoint, library)
    for call in claim.calls:
        note = _compare_call(checkpoint, call, library)
        notes += [note] if note else []
    return Witness(
        library=library.package,
        version=metadata.version(library.package),
        texts=len(claim.texts) - len(differing),
        vectors=len(rows) + len(claim.calls),
        difference=float(f"{worst:.2g}"),
        notes=tuple(notes),
    )


_REPORT = "Nothing was built; --no-witness builds it all the same"


def _kind_of(checkpoint: Checkpoint) -> str:
    return "sentence-transformers" if checkpoint.modular else "transformers"


def require_witness(checkpoint: Checkpoint) -> None:
    """Raises `RingkasError` where the checkpoint's own library is not installed: before any work is done."""
    modules = LIBRARIES[_kind_of(checkpoint)].modules
    missing = next((module for module in modules if find_spec(module) is None), None)
    if missing is not None:
        raise RingkasError(
            f"{missing.replace('_', '-')} is not installed",
            why="it bears witness that a checkpoint is read as it does itself",
            fix="Run: pip install 'ringkas[export]', or leave it out with --no-witness (witness=False)",
        )


def _open(checkpoint: Checkpoint) -> Library:
    require_witness(checkpoint)
    kind = LIBRARIES[_kind_of(checkpoint)]
    try:
        return kind(checkpoint)
    except Exception as error:  # whatever the library objects to, in whatever way
        raise CheckpointError(
            f"{kind.package} itself refuses {checkpoint.root}", why=_first_line(error)
        ) from None


def _by_class(
    checkpoint: Checkpoint,
    claim: Claim,
    differing: Sequence[int],
    library: Library,
    theirs: Sequence[list[int]],
) -> str:
    """The note on ids that differ by the declared tokenizer class alone.

    Raises:
        CheckpointError: they differ otherwise.
    """
    texts = [claim.texts[row] for row in differing]
    truth = fast_ids(checkpoint, [odd.text for odd in texts])
    guilty = [
        place
        for place, (row, odd) in enumerate(zip(differing, texts, strict=True))
        if not odd.by_class or list(claim.ids[row]) != truth[place]
    ]
    if guilty:
        # The odd ones come last and say most; a short text that differs says that all do.
        telling = [place for place in guilty if not texts[place].kind.startswith("text ")] or guilty
        row, odd = differing[telling[0]], texts[telling[0]]
        raise CheckpointError(
            f"{library.name} makes other token ids from {checkpoint.root}",
            why=f"{odd.kind}: {_difference(theirs[row], claim.ids[row])}",
            fix=f"Most likely read otherwise: {odd.setting}. " + _REPORT,
        )
    kinds = ", ".join(dict.fromkeys(_kind(odd) for odd in texts))
    return (
        f"the tokenizer class that {library.name} takes ({library.tokenizer_class}) makes other token ids of "
        f"{len(texts)} odd texts ({kinds}) than tokenizer.json, which artifacts go by"
    )


def _kind(odd: OddText) -> str:
    return "texts of no language" if odd.kind.startswith("text ") else odd.kind


def _difference(theirs: Sequence[int], ours: Sequence[int]) -> str:
    at = next(
        (place for place, (one, other) in enumerate(zip(theirs, ours, strict=False)) if one != other),
        min(len(theirs), len(ours)),
    )
    here = [str(ids[at]) if at < len(ids) else "nothing" for ids in (theirs, ours)]
    return f"{len(theirs)} tokens there, {len(ours)} here, first at {at}: {here[0]} there, {here[1]} here"


def _worst(ours: Vectors, theirs: Vectors, checkpoint: Checkpoint) -> tuple[float, int]:
    """The largest difference of any component, as `TOLERANCE` means it, and the row that has it."""
    if ours.shape != theirs.shape:
        raise CheckpointError(
            f"the library makes vectors of {theirs.shape[-1]} values from {checkpoint.root}, "
            f"not of {ours.shape[-1]}",
            fix="Most likely read otherwise: the modules, or truncate_dim. " + _REPORT,
        )
    differences = np.abs(ours.astype(np.float64) - theirs).max(axis=-1)
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    scale = max(1.0, float(np.nan_to_num(np.abs(theirs)).max()))
    return float(differences[worst]) / scale, worst


def _calls(encoder: Encoder) -> Iterable[Call]:
    """The default, both verbs, and each named prompt as explicit text."""
    spec = encoder.spec
    default = spec.default_prompt_name
    texts = {name: spec.prompts[name] for name in spec.prompts}
    query, document = spec.query_prompt(), spec.document_prompt()
    yield Call("encode", None, texts.get(default or "", ""), "the default prompt", encoder.encode(_SAMPLE))
    for verb, name in (("encode_query", query), ("encode_document", document)):
        yield Call(verb, None, texts.get(name or "", ""), verb, getattr(encoder, verb)(_SAMPLE))
    for name, text in texts.items():
        vector = encoder.encode(_SAMPLE, prompt=name)
        yield Call("encode", text, text, f"the prompt {name!r}", vector)


def _compare_prompts(checkpoint: Checkpoint, library: Library) -> None:
    for name, text in library.prompts.items():
        ours = checkpoint.spec.prompts.get(name)
        if ours != text:
            raise CheckpointError(
                f"{library.name} reads the prompt {name!r} of {checkpoint.root} as {text!r}, we as {ours!r}",
                fix="Most likely read otherwise: prompts. " + _REPORT,
            )


def _compare_call(checkpoint: Checkpoint, call: Call, library: Library) -> str | None:
    """A note where the library chooses another prompt by the rule of a table; None where all is equal.

    Raises:
        CheckpointError: it computes something else from the same prompt.
    """
    vector, prompt = library.ask(call, _SAMPLE)
    difference, _ = _worst(call.vector[None], vector[None], checkpoint)
    if difference <= TOLERANCE:
        return None
    if call.verb == "encode" or prompt == call.own_prompt:
        raise CheckpointError(
            f"{library.name} computes other vectors from {checkpoint.root} with {call.name}",
            why=f"they differ by {difference:.2g}; it puts {prompt!r} first, we {call.own_prompt!r}",
            fix="Most likely read otherwise: prompts, default_prompt_name or include_prompt. " + _REPORT,
        )
    return (
        f"{call.verb} of {library.name} puts {prompt!r} before a text in the checkpoint; "
        f"here it is {call.own_prompt!r}, and in the artifact for both"
    )


def _specials(checkpoint: Checkpoint) -> list[str]:
    """How the special tokens are written, the first eight."""
    document = json.loads((checkpoint.path / TOKENIZER_FILE).read_text(encoding="utf-8"))
    return [token["content"] for token in document.get("added_tokens", []) if token.get("special")][:8]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
