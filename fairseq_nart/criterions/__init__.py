"""fairseq criterions. fairseq does not look into this folder: the task imports it."""
