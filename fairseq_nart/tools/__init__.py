"""What people need around the models. Each tool is a library and a thin `fairseq-nart` command."""
