"""Benchmark of decoding position from hippocampal spikes (hc-11)."""
