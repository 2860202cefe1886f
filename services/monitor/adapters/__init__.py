"""What the monitor reads and follows on NATS."""
