"""Text that judges a vocabulary: read without its markup, thinned the same way every time."""

from __future__ import annotations

import pytest

pytest.importorskip("babel", reason="babel, of which the tables take names, is not installed")

from vocabulary_texts import MOST, running_text, sentences, thinned

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
