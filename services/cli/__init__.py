"""`roadstead`, the command line: the whole platform on one machine, and what a person asks of it."""
