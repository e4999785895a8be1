"""How `fairseq-nart inspect` looks at a sentence and draws it."""
