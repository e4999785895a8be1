"""Data as fairseq loads them: what is checked, chosen and added. Needs fairseq, knows no system."""
