"""GGUF: a checkpoint as one file for llama.cpp and everything built on it."""

from ringkas.export.gguf_format.convert import GgufResult, write_gguf
from ringkas.quantize.gguf_schemes import GGUF_TARGETS, GgufScheme

__all__ = ["GGUF_TARGETS", "GgufResult", "GgufScheme", "write_gguf"]
