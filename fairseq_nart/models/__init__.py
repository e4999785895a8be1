"""fairseq models, one file per system. fairseq imports every file here but the `_` ones."""
