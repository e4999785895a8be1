"""Loss functions. They return sums, which only the criterion divides."""
