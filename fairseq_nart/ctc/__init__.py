"""Connectionist temporal classification in torch alone: loss, best path, prefix beam search."""
