"""Pure: no I/O, no clock. What the worker processes run imports the standard library alone."""
