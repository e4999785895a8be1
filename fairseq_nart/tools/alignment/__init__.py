"""Word alignments from three sources, and fertilities computed from them; for align."""
