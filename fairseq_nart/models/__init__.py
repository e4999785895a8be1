"""fairseq models, one file per system. fairseq imports all files here except `_*.py`."""
