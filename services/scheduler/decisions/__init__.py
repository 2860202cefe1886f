"""What the scheduler exists for, as values in and values out: no I/O, no clock, no randomness of their own."""
