"""What brings services to what they are wanted to be, and what watches the load."""
