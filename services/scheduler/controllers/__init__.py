"""Loops that bring what is to what is wanted. They run in one scheduler at a time, the holder of the lease."""
