"""From source tokens to hypotheses: one engine for fairseq's commands, validation and the API."""
