"""What tests against packages of others share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"


@pytest.fixture(scope="session")
def environments() -> ModuleType:
    """`benchmarks/peers/environments.py`, which makes the environments and keeps them."""
    spec = importlib.util.spec_from_file_location("peers_environments", _PEERS / "environments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
