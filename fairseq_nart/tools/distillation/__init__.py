"""Options, backends, shards and data of `fairseq-nart distill`."""
