"""fairseq tasks. Importing the task registers everything and mends fairseq where it must be."""
