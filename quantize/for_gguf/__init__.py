"""Weights in llama.cpp's block formats."""
