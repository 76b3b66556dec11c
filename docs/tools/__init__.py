"""Helpers that build the documentation."""
