"""How `fairseq-nart distill` works: options, teacher, backends, shards, data."""
