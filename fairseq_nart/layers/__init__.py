"""Building blocks of the network. They need only torch."""
