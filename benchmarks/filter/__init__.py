"""Benchmark of Kalman filters: time, memory and accuracy of ours and of other implementations."""
