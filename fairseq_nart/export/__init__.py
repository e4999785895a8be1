"""Exports a trained model as a folder that `fairseq_nart.runtime` translates with."""
