"""Text that judges a vocabulary: read without its markup, thinned the same way every time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("babel", reason="babel, of which the tables take names, is not installed")

from vocabulary_texts import MOST, judges, running_text, sentences, thinned, treebanks

PAGE = r"""'\" t
.TH LS 1
.SH NAMA
ls \- daftar isi direktori
.SH KETERANGAN
Menampilkan informasi tentang \fIBERKAS\fP (direktori saat ini secara bawaan).
Urutkan entri dengan \fB\-U\fR.
.PP
\*(lqTidak lengkap\*(rq.
.nf
kode
.fi
"""


def test_a_manual_page_s_paragraphs_lose_their_marks_and_only_sentences_count() -> None:
    (text,) = running_text(PAGE)
    assert text == (
        "Menampilkan informasi tentang BERKAS (direktori saat ini secara bawaan). Urutkan entri dengan -U."
    )
    assert list(sentences([text])) == [
        "Menampilkan informasi tentang BERKAS (direktori saat ini secara bawaan).",
        "Urutkan entri dengan -U.",
    ]


def test_thinning_takes_distinct_long_lines_whatever_their_order() -> None:
    lines = [f"line {n} of a text that is long enough" for n in range(3 * MOST)]
    found = thinned([*lines, "short", lines[0] + "  "])
    assert found == thinned(reversed(lines))
    assert len(found) == MOST
    assert set(found) < set(lines)


def test_of_a_treebank_the_half_that_was_not_looked_at_judges(tmp_path: Path) -> None:
    lines = [f"En dansk sætning, som er lang nok, nummer {n}" for n in range(100)]
    folder = tmp_path / "UniversalDependencies+UD_Danish-DDT"
    folder.mkdir()
    for part, some in (("train", lines[:20]), ("dev", lines[20:60]), ("test", lines[60:])):
        text = "".join(f"# sent_id = {n}\n# text = {line}\n1\tEn\t_\n\n" for n, line in enumerate(some))
        (folder / f"da_ddt-ud-{part}.conllu").write_text(text, encoding="utf-8")
    found = treebanks(tmp_path, "da")
    assert list(found) == ["treebank Danish-DDT"]
    assert set(found["treebank Danish-DDT"]) == {line for line in lines[20:] if judges(line)}
    assert 20 < len(found["treebank Danish-DDT"]) < 60
    assert treebanks(tmp_path, "km") == {}
