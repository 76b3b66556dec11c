"""Established methods for decoding behavior from spike counts.

A method is a `decoding.selection.Decoder` of a `decoding.tasks.Task`. Predictions have the unit of the recording.
"""
