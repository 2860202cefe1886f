"""What brings targets to where their policies and schedules want them."""
