"""Loads autoregressive teachers and scores candidates with them."""
