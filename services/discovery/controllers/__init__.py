"""What discovery does by itself."""
