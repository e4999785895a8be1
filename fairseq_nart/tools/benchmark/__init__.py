"""How `fairseq-nart bench` measures, and the records it writes."""
