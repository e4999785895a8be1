"""Parts of `fairseq-nart doctor`."""
