"""The PyTorch engine refuses a device that is not there in the project's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringkas import load
from ringkas.errors import ArtifactError


@pytest.mark.parametrize("device", ["x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(demo_artifacts: Path, device: str) -> None:
    with pytest.raises(ArtifactError, match=f"PyTorch cannot use the device '{device}': .*Choose cpu"):
        load(demo_artifacts / "pytorch-fp32", device=device)
