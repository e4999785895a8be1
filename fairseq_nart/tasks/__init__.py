"""The fairseq task. Importing it registers all systems and fixes faults of fairseq."""
