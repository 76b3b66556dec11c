"""Benchmark of the library on a GPU: filter, training steps and image encoder, in eight minutes at most."""
