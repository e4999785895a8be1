"""How `fairseq-nart report` compares records and tells what they come to."""
