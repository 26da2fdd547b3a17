"""A checkpoint to the same checkpoint with the vocabulary of some languages, and a certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ringkas import texts as text_sets
from ringkas.artifact import Witness
from ringkas.checkpoint import WEIGHTS, Checkpoint, open_checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.export.vocabulary import rewrite
from ringkas.export.vocabulary.allocation import check_weights
from ringkas.export.vocabulary.audit import audit
from ringkas.export.vocabulary.certificate import (
    Certificate,
    Change,
    Comparison,
    LanguageReport,
    Prediction,
    Segmented,
    compare_segmentation,
    to_markdown,
    unknown_ids,
)
from ringkas.export.vocabulary.counting import CorpusCounts, count_corpus
from ringkas.export.vocabulary.encoded import compare_vectors
from ringkas.export.vocabulary.kinds import kind_of, read_document, vocabulary_size
from ringkas.export.vocabulary.languages import Language, canonical, resolve_languages
from ringkas.export.vocabulary.pieces import Mask, Pieces, read_pieces
from ringkas.export.vocabulary.predict import beside_corpora, predict
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.select import DEFAULT_COVERAGE, Limits, check_room, choose, must_keep
from ringkas.export.vocabulary.usage import Usage, expect_usage
from ringkas.export.vocabulary.weights import parameters, table_of, write_kept_rows
from ringkas.family import Positions
from ringkas.files import refuse_existing, sha256, staged_folder, write_json
from ringkas.progress import QUIET, Progress
from ringkas.tensors import Tensor, read_tensors
from ringkas.tokens import TOKENIZER_FILE
from ringkas.vocabulary import KEPT_IDS_FILE, VOCABULARY_FILE, load_kept_ids

# RoBERTa counts positions from the padding id: it must stay where it is, and so must all ids before it.
_HIGHEST_FIXED_ID = 64


@dataclass(frozen=True)
class PruneOptions:
    """What to keep.

    Args:
        languages: BCP-47 tags.
        corpora: files of text by tag, those of `tl` and `fil` together, of any format that is read.
        max_tokens: at most so many rows, the most useful ones.
        coverage: at least such a share of expected tokens in every language, when there is no `max_tokens`.
        keep_all_characters: keep every piece of one character of any script, so that no character becomes
            unknown. Off by default: with XLM-R it costs 12,800 rows for English and 8,900 for Korean and
            English, a third and a fifth of all rows kept, for characters that their text does not have.
        weights: with `max_tokens`, how many times over the changed text of a language counts, by tag; one
            where nothing is said. Rows go where the worst language's loss, so weighed, falls most.
    """

    languages: tuple[str, ...]
    corpora: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    max_tokens: int | None = None
    coverage: float | None = None
    keep_all_characters: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", {canonical(tag): weight for tag, weight in self.weights.items()})
        corpora: dict[str, tuple[Path, ...]] = {}
        for tag, files in self.corpora.items():
            corpora[canonical(tag)] = (*corpora.get(canonical(tag), ()), *files)
        object.__setattr__(self, "corpora", corpora)


@dataclass(frozen=True)
class Plan:
    """What was read before anything is written, and who bore witness that it was read right."""

    checkpoint: Checkpoint
    document: Mapping[str, Any]
    languages: tuple[Language, ...]
    options: PruneOptions
    corpora: Mapping[str, CorpusCounts]
    witness: Witness | None = None

    @cached_property
    def weighed(self) -> Weighed:
        """Which tokens must stay, and how often each is expected in each language."""
        return _weigh_tokens(self)


@dataclass(frozen=True)
class Weighed:
    """The pieces, those that no limit drops, and the expected use of all."""

    pieces: Pieces
    must: Mask
    usage: Usage


def prune_checkpoint(
    checkpoint: Checkpoint,
    options: PruneOptions,
    place: Path,
    *,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> Checkpoint:
    """Writes the pruned checkpoint into the folder `place` and opens it.

    Raises:
        TargetError: an option or a language cannot be used.
        CheckpointError: the tokenizer or the weights cannot be pruned, or the result failed its audit.
        TextError: a corpus cannot be read.
        ArtifactError: `place` exists and `overwrite` is false, or cannot be written.
    """
    refuse_existing([place], overwrite=overwrite)
    return prune_by(make_plan(checkpoint, options, progress), place, overwrite=overwrite, progress=progress)


def prune_by(plan: Plan, place: Path, *, overwrite: bool = False, progress: Progress = QUIET) -> Checkpoint:
    """As `prune_checkpoint`, by a plan that is made."""
    full = plan.checkpoint.path
    with progress.stage(f"choosing tokens for {', '.join(language.tag for language in plan.languages)}"):
        kept = choose_ids(plan)
    with staged_folder(place, overwrite=overwrite) as folder:
        with progress.stage(f"writing {len(kept)} of {vocabulary_size(plan.document)} tokens"):
            notes = write_pruned(plan, kept, folder)
        with progress.stage("comparing the pruned files with the full ones"):
            audit(full, folder, kept)
        expected = _predict(plan, kept)  # before anything is judged
        notes += _beside_corpora(plan, kept)
        with progress.stage("judging the vocabulary on text that did not choose it"):
            judged = compare_vectors(full, folder, _compare_segmentation(plan, kept, folder))
        judged = {
            tag: msgspec.structs.replace(report, predicted=expected.get(tag))
            for tag, report in judged.items()
        }
        certificate = _certificate(plan, kept, folder, judged, notes).as_dict()
        write_json(folder / VOCABULARY_FILE, certificate)
        _append_to_card(folder / "README.md", certificate)
    return open_checkpoint(place, as_embedder=plan.checkpoint.as_embedder)


def make_plan(checkpoint: Checkpoint, options: PruneOptions, progress: Progress = QUIET) -> Plan:
    """Checks the options, reads the tokenizer and counts the corpora."""
    _check_options(options)
    languages = resolve_languages(options.languages, options.corpora)
    document = read_document(checkpoint.path)
    corpora = {}
    if options.corpora:
        segmenter = Segmenter(document, lower_case=checkpoint.spec.lower_case)
        for tag, paths in options.corpora.items():
            with progress.stage(f"counting {', '.join(map(str, paths))}"):
                corpora[tag] = count_corpus(paths, segmenter, vocabulary_size(document))
    return Plan(checkpoint, document, languages, options, corpora)


def _weigh_tokens(plan: Plan) -> Weighed:
    checkpoint, document, options = plan.checkpoint, plan.document, plan.options
    segmenter = Segmenter(document, lower_case=checkpoint.spec.lower_case)
    pieces = read_pieces(document)
    always = {id for id in rewrite.referenced_ids(document, checkpoint.config) if id < len(pieces)}
    always |= _fixed_ids(checkpoint)
    prompts = list(checkpoint.spec.prompts.values())
    # With a text behind it, for the prompt's last space belongs to the text's first word.
    for ids in segmenter.ids([*prompts, *(prompt + "a" for prompt in prompts)], special=True):
        always.update(ids)
    must = must_keep(plan.languages, pieces, always, all_characters=options.keep_all_characters)
    check_room(must, Limits(options.max_tokens))  # before the word lists are counted, which takes seconds
    return Weighed(pieces, must, expect_usage(plan.languages, pieces, segmenter, plan.corpora))


def choose_ids(plan: Plan) -> list[int]:
    """The token ids to keep, ascending."""
    kept: list[int] = np.flatnonzero(_chosen(plan, plan.weighed.usage)).tolist()
    return kept


def _chosen(plan: Plan, usage: Usage) -> Mask:
    options, weighed = plan.options, plan.weighed
    limits = Limits(options.max_tokens, options.coverage)
    return choose(weighed.pieces, usage, weighed.must, limits, options.weights)


def write_pruned(plan: Plan, kept: Sequence[int], folder: Path) -> list[str]:
    """Writes everything but the certificate into `folder`; returns notes for it."""
    checkpoint = plan.checkpoint
    new_ids = {old: new for new, old in enumerate(kept)}
    notes = [*_cut_before(plan), *rewrite.copy_other_files(checkpoint.root, folder)]
    if checkpoint.subfolder:
        rewrite.flatten(folder, checkpoint.subfolder)
    document = rewrite.rewrite_document(plan.document, kept)
    notes += rewrite.write_tokenizer(folder, document, new_ids)
    rewrite.write_configs(checkpoint, folder, len(kept), new_ids)
    notes += write_kept_rows(read_tensors(checkpoint.path), kept, folder / WEIGHTS)
    ids_file = folder / KEPT_IDS_FILE
    ids_file.parent.mkdir(exist_ok=True)
    # Always ids of the first, full vocabulary, also when what is pruned was pruned before.
    full = kept if checkpoint.vocabulary is None else load_kept_ids(checkpoint.path)[list(kept)]
    np.save(ids_file, np.array(full, dtype=np.int32))
    return notes


def _predict(plan: Plan, kept: Sequence[int]) -> dict[str, Prediction]:
    segmenter = Segmenter(plan.document, lower_case=plan.checkpoint.spec.lower_case)
    return predict(plan.weighed.usage, plan.corpora, segmenter, _mask(plan, kept))


def _beside_corpora(plan: Plan, kept: Sequence[int]) -> Sequence[str]:
    """What corpora cost other text, where rows are too few for both."""
    if not plan.weighed.usage.corpora or plan.options.max_tokens is None:
        return ()
    alone = replace(plan.weighed.usage, corpora={})
    without = _chosen(plan, alone)
    return beside_corpora(alone, _mask(plan, kept), without)


def _mask(plan: Plan, kept: Sequence[int]) -> Mask:
    mask = np.zeros(len(plan.weighed.pieces), dtype=np.bool_)
    mask[list(kept)] = True
    return mask


def _check_options(options: PruneOptions) -> None:
    if options.coverage is not None and not 0.0 < options.coverage < 1.0:
        raise TargetError(
            f"a coverage of {options.coverage} is not between 0 and 1", fix="Ask for 0.9995, say"
        )
    if options.coverage is not None and options.max_tokens is not None:
        raise TargetError("--coverage and --max-tokens exclude each other", fix="Give one of the two")
    if options.max_tokens is not None and options.max_tokens < 1:
        raise TargetError(f"--max-tokens {options.max_tokens} is not a positive number")
    if options.weights and options.max_tokens is None:
        raise TargetError(
            "--weights go with --max-tokens",
            why="without a limit every language gets the rows that it needs",
            fix="Say how many rows to keep: --max-tokens N",
        )
    check_weights(options.weights, tuple(map(canonical, options.languages)))


def _cut_before(plan: Plan) -> list[str]:
    """What to say of a checkpoint whose vocabulary has been cut already."""
    if plan.checkpoint.vocabulary is None:
        return []
    before = ", ".join(plan.checkpoint.vocabulary["languages"])
    missing = [
        language.tag for language in plan.languages
        if language.tag not in plan.checkpoint.vocabulary["languages"]
    ]  # fmt: skip
    lacking = f"; what {', '.join(missing)} lost there does not come back" if missing else ""
    return [f"cut once before, to {before}: figures here compare with that vocabulary{lacking}"]


def _fixed_ids(checkpoint: Checkpoint) -> set[int]:
    if checkpoint.family.positions not in (Positions.AFTER_PAD, Positions.FROM_TWO):
        return set()
    padding = checkpoint.family.position_offset(checkpoint.config) - 1
    if padding > _HIGHEST_FIXED_ID:
        raise CheckpointError(
            f"the padding token has the id {padding}",
            why=f"{checkpoint.family.name} counts positions from it, so all ids before it would have to stay",
        )
    return set(range(padding + 1))


def judging_texts(plan: Plan) -> dict[str, tuple[str, Sequence[str]]]:
    """By language: what the texts are called, and the texts; a corpus is the user's own and goes first."""
    built_in = text_sets.probe([language.tag for language in plan.languages])
    chosen: dict[str, tuple[str, Sequence[str]]] = {}
    for language in plan.languages:
        corpus, base = plan.corpora.get(language.tag), text_sets.base_language(language.tag)
        if corpus is not None and corpus.held_out:
            chosen[language.tag] = ("the held-out part of the corpus", corpus.held_out)
        elif base in text_sets.LANGUAGES:
            chosen[language.tag] = ("the probe set", text_sets.probe([base])[base])
    chosen[text_sets.UNDETERMINED] = ("the probe set", built_in[text_sets.UNDETERMINED])
    return chosen


def _compare_segmentation(plan: Plan, kept: Sequence[int], folder: Path) -> dict[str, Segmented]:
    lower_case = plan.checkpoint.spec.lower_case
    full = Segmenter(plan.document, lower_case=lower_case)
    comparison = Comparison(
        full=full,
        pruned=Segmenter(read_document(folder), lower_case=lower_case),
        kept=kept,
        unknown=unknown_ids(plan.document),
        limit=plan.checkpoint.spec.max_length - len(next(full.ids([""], special=True))),
        with_unknown_words=plan.document["model"]["type"] == "WordPiece",
    )
    return {
        tag: compare_segmentation(comparison, list(texts), name)
        for tag, (name, texts) in judging_texts(plan).items()
    }


def _certificate(
    plan: Plan, kept: Sequence[int], folder: Path, judged: Mapping[str, LanguageReport], notes: Sequence[str]
) -> Certificate:
    before, after = read_tensors(plan.checkpoint.path), read_tensors(folder)
    unjudged = [language.tag for language in plan.languages if language.tag not in judged]
    notes = [*notes, *(f"no text to judge {tag} by: give a corpus" for tag in unjudged)]
    return Certificate(
        kind=str(plan.document["model"]["type"]),
        theorem=kind_of(plan.document).THEOREM,
        languages=tuple(language.tag for language in plan.languages),
        selection=_selection(plan),
        rows=Change(table_of(before).shape[0], len(kept)),
        parameters=Change(parameters(before), parameters(after)),
        bytes=Change(_bytes(before, plan.checkpoint.path), _bytes(after, folder)),
        kept_ids_sha256=sha256(folder / KEPT_IDS_FILE),
        source={"model": plan.checkpoint.origin, "revision": plan.checkpoint.revision},
        by_language=dict(judged),
        notes=tuple(notes),
        witness=plan.witness,
    )


def _selection(plan: Plan) -> dict[str, Any]:
    """How the tokens were chosen, in plain values."""
    options, sources = plan.options, {}
    for language in plan.languages:
        corpus = plan.corpora.get(language.tag)
        sources[language.tag] = {
            "word_list": language.word_list,
            "script": list(language.scripts) if language.owns_script else [],
            "corpus_texts": corpus.texts if corpus else 0,
            "corpus_tokens": int(corpus.tokens) if corpus else 0,
            "corpus_held_out_texts": corpus.held_out_texts if corpus else 0,
        }
    coverage = options.coverage or DEFAULT_COVERAGE
    return {
        "max_tokens": options.max_tokens,
        "coverage": coverage if options.max_tokens is None else None,
        "keep_all_characters": options.keep_all_characters,
        "weights": dict(options.weights),
        "sources": sources,
    }


def _bytes(tensors: Sequence[Tensor], folder: Path) -> int:
    """The size of the weights and the tokenizer, in bytes."""
    return sum(tensor.size for tensor in tensors) + (folder / TOKENIZER_FILE).stat().st_size


def _append_to_card(file: Path, certificate: Mapping[str, Any]) -> None:
    card = file.read_text(encoding="utf-8", errors="replace").rstrip() + "\n\n" if file.is_file() else ""
    file.write_text(card + to_markdown(certificate), encoding="utf-8")
