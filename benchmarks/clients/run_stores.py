"""What `ringkas embed` wrote, as a store reads it back: run_stores.py (duckdb|sqlite_vec) REQUEST.

The request's `embedded` is a folder with `vectors.parquet` and `vectors.npy`, a row for each case.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ask import serve


def duckdb(folder: Path) -> Any:
    import duckdb

    found = duckdb.sql(f"SELECT embedding FROM '{folder / 'vectors.parquet'}' ORDER BY row").fetchall()
    return [row[0] for row in found]


def sqlite_vec(folder: Path) -> Any:
    import json

    import apsw
    import numpy as np
    import sqlite_vec

    vectors = np.load(folder / "vectors.npy")
    database = apsw.Connection(":memory:")
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    database.execute(f"CREATE VIRTUAL TABLE found USING vec0(vector float[{vectors.shape[1]}])")
    for place, vector in enumerate(vectors, 1):
        database.execute("INSERT INTO found(rowid, vector) VALUES (?, ?)", (place, vector.tobytes()))
    rows = database.execute("SELECT vec_to_json(vector) FROM found ORDER BY rowid")
    return [json.loads(row[0]) for row in rows]


READERS = {"duckdb": duckdb, "sqlite_vec": sqlite_vec}
NAMES = {"duckdb": "duckdb", "sqlite_vec": "sqlite-vec"}


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    rows = READERS[sys.argv[1]](Path(request["embedded"]))
    return [rows[case["row"]] for case in cases]


if __name__ == "__main__":
    serve(encode, NAMES[sys.argv[1]])
