"""Decoding: one engine for fairseq's commands, validation and the Python API."""
