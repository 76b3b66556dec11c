"""Benchmark of identifiability: whether models find the true latents of systems in which they are known."""
