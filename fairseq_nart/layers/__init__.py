"""Parts of the network. Everything here imports torch alone."""
