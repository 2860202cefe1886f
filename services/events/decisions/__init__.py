"""Pure: values and the time in, values out. No I/O, no clock."""
