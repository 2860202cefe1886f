"""What groups, rules and filters mean. No I/O, no clock."""
