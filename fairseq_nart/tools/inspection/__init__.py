"""Decoding and drawing of one sentence, for `fairseq-nart inspect`."""
