"""Command-line tools. Each is a library with a thin `fairseq-nart` command."""
