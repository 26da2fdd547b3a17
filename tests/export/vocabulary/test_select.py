"""The most useful tokens first, nothing that must stay is dropped, and the limits hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ringkas import texts as text_sets
from ringkas.errors import TargetError
from ringkas.export.vocabulary import select, wordlists
from ringkas.export.vocabulary import usage as usage_module
from ringkas.export.vocabulary.allocation import check_weights
from ringkas.export.vocabulary.languages import known_languages, resolve_languages
from ringkas.export.vocabulary.pieces import Pieces, read_pieces
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import Usage, expect_usage, tones_apart
from ringkas.export.vocabulary.wordlists import cases, count_words, spelling_chances


def pieces_of(*surfaces: str, parents: dict[int, tuple[int, ...]] | None = None) -> Pieces:
    share = np.full(len(surfaces), 1 / len(surfaces))
    return Pieces(surfaces, share, frozenset({0}), parents or {})


def test_tags_resolve_to_scripts_and_lists() -> None:
    korean, tagalog, traditional, croatian = resolve_languages(("ko-KR", "tl", "zh-Hant", "hr"), {})
    assert (korean.scripts, korean.word_list, korean.owns_script) == (("Hang",), "ko", True)
    assert (tagalog.tag, tagalog.word_list) == ("fil", "fil")
    assert (traditional.word_list, traditional.owns_script) == (None, True)
    assert (croatian.word_list, croatian.owns_script) == ("sh", False)
    assert {"en", "ko", "th", "km", "lo", "my"} <= set(known_languages())
    assert "jv" not in known_languages()


def test_characters_that_always_stay() -> None:
    pieces = pieces_of("<s>", "7", "!", "가", "가나", "a", "é", "д", "😀", "水", "the")
    korean = must_keep(resolve_languages(("ko",), {}), pieces, [10], all_characters=False)
    assert [pieces.surfaces[n] for n in np.flatnonzero(korean)] == [
        "<s>",
        "7",
        "!",
        "가",
        "a",
        "😀",
        "水",
        "the",
    ]
    every = must_keep(resolve_languages(("ko",), {}), pieces, [], all_characters=True)
    assert every.sum() == len(pieces) - 2


def test_japanese_keeps_the_ideographs_of_its_own_set() -> None:
    pieces = pieces_of("<s>", "水", "鷗", "们", "か", "カ", "the")
    kept = must_keep(resolve_languages(("ja",), {}), pieces, [], all_characters=False)
    assert [pieces.surfaces[id] for id in np.flatnonzero(kept)] == ["<s>", "水", "か", "カ"]


@pytest.mark.parametrize("tag", ["ko-KR", "KO", "ko-Kore"])
def test_every_tag_of_korean_keeps_its_hanja(tag: str) -> None:
    pieces = pieces_of("<s>", "가", "水", "the")
    assert must_keep(resolve_languages((tag,), {}), pieces, [], all_characters=False).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_the_most_useful_come_first_with_their_ancestors() -> None:
    pieces = pieces_of("<s>", "a", "b", "ab", "abc", "c", "d", parents={3: (1, 2), 4: (3, 5)})
    usage = Usage({"en": np.array([0, 0, 0, 0.1, 0.5, 0, 0.4])})
    must = np.arange(7) == 0
    assert np.flatnonzero(choose(pieces, usage, must, Limits(max_tokens=7))).tolist() == [0, 1, 2, 3, 4, 5, 6]
    # The best one does not fit with what it is built from, so the next does.
    assert np.flatnonzero(choose(pieces, usage, must, Limits(max_tokens=5))).tolist() == [0, 1, 2, 3, 6]
    with pytest.raises(TargetError, match="too few"):
        choose(pieces, usage, np.ones(7, dtype=np.bool_), Limits(max_tokens=6))


def test_coverage_holds_for_the_hardest_language() -> None:
    pieces = pieces_of(*"abcd")
    usage = Usage({"x": np.array([0, 0.9, 0.1, 0]), "y": np.array([0, 0.5, 0.3, 0.2])})
    kept = choose(pieces, usage, np.arange(4) == 0, Limits(coverage=0.75))
    assert np.flatnonzero(kept).tolist() == [0, 1, 2]


def test_names_are_counted_as_they_are_written(xlmr_tokenizer: dict[str, Any]) -> None:
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    vocabulary = {piece: id for id, (piece, _) in enumerate(xlmr_tokenizer["model"]["vocab"])}
    usage = count_words(
        {"iceland": 1e-5, "weather": 1e-5}, segmenter, pieces.probability, language="en", spaced=True
    )
    assert usage[vocabulary["▁Iceland"]] > 0.2
    assert usage[vocabulary["▁weather"]] > usage[vocabulary["▁Weather"]]


@pytest.mark.parametrize(
    ("word", "language", "first", "capitals"),
    [
        ("weather", "en", "Weather", "WEATHER"),
        ("insan", "tr", "İnsan", "İNSAN"),
        ("ırmak", "tr", "Irmak", "IRMAK"),
        ("ijsland", "nl", "IJsland", "IJSLAND"),
        ("άνθρωπος", "el", "Άνθρωπος", "ΑΝΘΡΩΠΟΣ"),
        ("προϊόν", "el", "Προϊόν", "ΠΡΟΪΟΝ"),
        ("가나", "ko", "가나", "가나"),
    ],
)
def test_capitals_are_those_of_the_language(word: str, language: str, first: str, capitals: str) -> None:
    assert cases(word, language) == (word, first, capitals)


@pytest.mark.parametrize(("tag", "piece"), [("ur", "▁گی۔"), ("tr", "▁İnsan")])
def test_what_only_this_language_writes_so_is_among_what_it_needs(
    tag: str, piece: str, xlmr_tokenizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its sabotaged twin: by the habits of English it is not."""
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    id = [one for one, _ in xlmr_tokenizer["model"]["vocab"]].index(piece)

    def place() -> int:
        usage = expect_usage(resolve_languages((tag,), {}), pieces, segmenter).by_language[tag]
        return int((usage > usage[id]).sum())

    assert place() < 10_000
    monkeypatch.setattr(wordlists, "_TURKIC", frozenset())
    monkeypatch.setattr(wordlists, "_FULL_STOPS", {})
    assert place() > 30_000


def test_script_data_of_the_real_vocabulary(xlmr_tokenizer: dict[str, Any]) -> None:
    pieces = read_pieces(xlmr_tokenizer)
    hangul, latin = pieces.of_scripts(("Hang",)), pieces.of_scripts(("Latn",))
    assert 5_400 < hangul.sum() < 5_600
    assert 110_000 < latin.sum() < 111_500
    assert not any(
        "가" <= character <= "힣" for n in np.flatnonzero(latin) for character in pieces.surfaces[n]
    )


def test_the_order_of_merges_tempers_word_lists(small_documents: dict[str, Any]) -> None:
    pieces = read_pieces(small_documents["byte-level-bpe"])
    assert pieces.trust > 0
    segmenter, languages = Segmenter(small_documents["byte-level-bpe"]), resolve_languages(("id",), {})
    usages = [
        expect_usage(languages, replace(pieces, trust=trust), segmenter).by_language["id"]
        for trust in (0.0, pieces.trust, 0.9)
    ]
    used = (usages[0] > 1e-5) & pieces.lettered & (pieces.probability > 0)
    plain, tempered, nearly_all = (
        np.corrcoef(np.log(usage[used]), np.log(pieces.probability[used]))[0, 1] for usage in usages
    )
    assert used.sum() > 100
    assert plain < tempered < nearly_all


def test_rows_go_where_the_worst_loss_falls_most() -> None:
    rng = np.random.default_rng(0)
    size = 2000
    steep, flat = np.sort(rng.pareto(1.2, size))[::-1], rng.pareto(6.0, size)
    zero = np.zeros(size)
    usage = Usage(
        {"x": np.concatenate([steep / steep.sum(), zero]), "y": np.concatenate([zero, flat / flat.sum()])}
    )
    pieces, must = pieces_of(*("ab" for _ in range(2 * size))), np.zeros(2 * size, dtype=np.bool_)

    def losses(limits: Limits, weights: dict[str, float] | None = None) -> tuple[float, float]:
        kept = choose(pieces, usage, must, limits, weights)
        assert kept.sum() == limits.max_tokens
        return float(usage.by_language["x"][~kept].sum()), float(usage.by_language["y"][~kept].sum())

    limits = Limits(max_tokens=2500)
    order = np.argsort(-usage.total(), kind="stable")
    by_sum = max(float(weights[order[2500:]].sum()) for weights in usage.by_language.values())
    fair = losses(limits)
    assert max(fair) < by_sum
    assert losses(limits, {"x": 3.0})[0] < fair[0]
    assert losses(limits, {"y": 3.0})[1] < fair[1]
    # Of two alike, the one with the longer texts loses more of them, and is given more rows.
    long = replace(usage, lengths={"x": 30.0, "y": 10.0})
    kept = choose(pieces, long, must, limits)
    assert usage.by_language["x"][~kept].sum() < fair[0]
    shares = long.changed(kept)
    assert shares["x"] == pytest.approx(1 - np.exp(-30 * usage.by_language["x"][~kept].sum()))
    assert max(shares.values()) < max(long.changed(choose(pieces, usage, must, limits)).values())
    # One language alone is served as ever.
    alone = Usage({"x": usage.by_language["x"]})
    assert np.array_equal(
        choose(pieces, alone, must, Limits(max_tokens=100)),
        usage.by_language["x"] >= np.sort(steep)[-100] / steep.sum(),
    )


def test_a_weight_must_be_of_a_chosen_language_and_positive() -> None:
    with pytest.raises(TargetError, match="'ko', which is not among"):
        check_weights({"ko": 2.0}, ("en",))
    for weight in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(TargetError, match="not a positive number"):
            check_weights({"en": weight}, ("en",))


def test_numbers_in_the_script_s_own_digits_count_as_its_letters_do(xlmr_tokenizer: dict[str, Any]) -> None:
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    own = pieces.unlettered_of(("Mymr",))
    year = pieces.surfaces.index("၂၀၁၀")
    assert own[year]
    assert not any(pieces.surfaces[id].isascii() for id in np.flatnonzero(own))
    usage = expect_usage(resolve_languages(("my",), {}), pieces, segmenter).by_language["my"]
    letters = np.flatnonzero(pieces.of_scripts(("Mymr",)))
    like = letters[np.argmin(np.abs(pieces.probability[letters] - pieces.probability[year]))]
    assert 0.5 < usage[year] / usage[like] < 2.5


def test_text_without_letters_is_kept_as_far_as_it_is_usual() -> None:
    pieces = pieces_of("1990", "45313351", "10.12.2019", "။။", "。」", "????", "(%)", "★★★★★")
    assert pieces.usual(("Latn",)).tolist() == [True, *[False] * 4, True, True, False]
    assert pieces.usual(("Hani",)).tolist() == [True, *[False] * 3, True, True, True, False]


def test_characters_of_no_use_are_kept_by_their_use_alone() -> None:
    signs = ("7", "७", "٧", "៧", "７", "\ue005", "🙂", "。", "!")
    pieces = pieces_of("<s>", *signs)

    def kept(*tags: str, all_characters: bool = False) -> str:
        languages = resolve_languages(tags, {})
        mask = must_keep(languages, pieces, (), all_characters=all_characters)
        return "".join(pieces.surfaces[id] for id in np.flatnonzero(mask)[1:])

    assert kept("en") == "7７🙂。!"
    assert kept("en", "hi") == "7७７🙂。!"
    assert kept("ar") == "7٧７🙂。!"
    assert kept("en", all_characters=True) == "".join(signs)


def test_runs_of_one_sign_are_part_of_any_text(xlmr_tokenizer: dict[str, Any]) -> None:
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    languages = resolve_languages(("en",), {})
    must = must_keep(languages, pieces, (), all_characters=False)
    kept = choose(pieces, expect_usage(languages, pieces, segmenter), must, Limits(max_tokens=36_000))
    for run in ("!!!!!!", ".....", "Wait.......", "________", "******", "?????", "========", "-------------"):
        assert kept[next(segmenter.ids([run]))].all(), run
    # And what nobody types is not kept for looking alike.
    assert not kept[pieces.surfaces.index("ـــــ")]


def test_hanja_are_those_of_korean_text(
    xlmr_tokenizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the twin: by the tokenizer's own probabilities, which are of Chinese, they are not."""
    pieces = read_pieces(xlmr_tokenizer)

    def lost(text: str) -> str:
        kept = must_keep(resolve_languages(("ko",), {}), pieces, (), all_characters=False)
        spelt = {pieces.surfaces[id] for id in np.flatnonzero(kept)}
        return "".join(character for character in text if character not in spelt)

    # Characters of family names and of the preamble of the constitution.
    text = "金李朴崔鄭姜趙尹張林悠久歷史傳統輝大韓國民獨立運動建立臨時政府法統不義抗拒理念繼承"
    assert lost(text) == ""
    monkeypatch.setattr(select, "hanja", lambda: "")
    assert lost(text) != ""


def test_words_behind_brackets_and_in_capitals_are_expected(
    xlmr_tokenizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the twin: without those shares they are nearly not."""
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    vocabulary = [piece for piece, _ in xlmr_tokenizer["model"]["vocab"]]
    bare = [vocabulary.index(piece) for piece in ("London", "Korea", "Microsoft")]

    def expected() -> float:
        usage = expect_usage(resolve_languages(("en",), {}), pieces, segmenter).by_language["en"]
        return float(usage[bare].min())

    with_forms = expected()
    for name in ("_BARE_SHARE", "_BARE_CAPITAL", "_BARE_UPPER", "_UPPER"):
        monkeypatch.setattr(usage_module, name, 0.0)
    assert with_forms > 2 * expected()


def test_tones_come_apart_and_vowels_stay_whole() -> None:
    assert tones_apart("được Tiếng ăn ở") == "đươ\u0323c Tiê\u0301ng ăn ơ\u0309"


@pytest.mark.parametrize("share", [0.003, 0.0])
def test_vietnamese_with_its_tones_apart_is_segmented_as_before(
    share: float, xlmr_tokenizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_TONES_APART", {"vi": share})
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    languages = resolve_languages(("vi",), {})
    must = must_keep(languages, pieces, (), all_characters=False)
    kept = choose(pieces, expect_usage(languages, pieces, segmenter), must, Limits(max_tokens=60_000))
    lines = text_sets.probe(["vi"])["vi"]
    apart = [kept[ids].all() for ids in segmenter.ids([tones_apart(line) for line in lines])]
    assert (np.mean(apart) > 0.9) == (share > 0), np.mean(apart)
    assert np.mean([kept[ids].all() for ids in segmenter.ids(lines)]) > 0.9


def test_a_piece_is_as_likely_as_the_words_in_a_row_that_spell_it() -> None:
    words = {"国": 0.1, "国際": 0.05, "際": 0.02, "的": 0.3}
    found = spelling_chances(["国際", "国際的", "的国", "社会", ""], words)
    assert found == pytest.approx([0.05 + 0.1 * 0.02, 0.3 * 0.052, 0.3 * 0.1, 0.0, 1.0])


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_japanese_keeps_pieces_that_reach_across_words_of_its_own(
    share: float, xlmr_tokenizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_SPELT_SHARE", share)
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    usage = expect_usage(resolve_languages(("ja",), {}), pieces, segmenter).by_language["ja"]
    ours, chinese = (pieces.surfaces.index(text) for text in ("的社会", "这个"))
    assert pieces.probability[chinese] > 10 * pieces.probability[ours]
    assert (usage[ours] > usage[chinese]) == (share > 0), usage[ours] / usage[chinese]
