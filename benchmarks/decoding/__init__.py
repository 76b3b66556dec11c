"""Decoding of behavior: accuracy, calibration and cost on recordings of several laboratories, and times of a fit."""
