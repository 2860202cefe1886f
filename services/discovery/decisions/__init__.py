"""What follows from what: no clock, no network, no state of its own."""
