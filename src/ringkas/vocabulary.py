"""A pruned vocabulary, as it travels: its certificate and the map from new ids to old."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ringkas.arrays import ArraysError, read_array
from ringkas.errors import ArtifactError
from ringkas.tokens import Ids

# What `ringkas prune` leaves in the checkpoint that it writes, and `ringkas build` in the artifacts of it.
VOCABULARY_FILE = "ringkas_vocabulary.json"
KEPT_IDS_FILE = "vocabulary/kept_ids.npy"


def load_kept_ids(folder: Path) -> Ids:
    """The old id of each new id, int64.

    Raises:
        ArtifactError: the map is missing or damaged.
    """
    file = folder / KEPT_IDS_FILE
    try:
        ids = read_array(file)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ArraysError(f"it holds {ids.dtype} of shape {ids.shape}")
    except ArraysError as error:
        raise ArtifactError(f"{file} cannot be read", why=str(error), fix="Prune or copy it again") from None
    return np.asarray(ids, dtype=np.int64)
