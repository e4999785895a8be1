"""A web server that translates, with a page to try it. Needs neither torch nor fairseq."""
