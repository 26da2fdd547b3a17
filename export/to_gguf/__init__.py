"""GGUF: a checkpoint as one file for llama.cpp and everything built on it."""

from ringkas.export.to_gguf.convert import GgufResult, write_gguf
from ringkas.quantize.for_gguf.schemes import GGUF_TARGETS, GgufScheme

__all__ = ["GGUF_TARGETS", "GgufResult", "GgufScheme", "write_gguf"]
