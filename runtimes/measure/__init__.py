"""Latency, throughput and memory of artifacts, each engine in a process of its own."""
