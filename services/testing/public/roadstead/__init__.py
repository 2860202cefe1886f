"""Roadstead, for those who use it in their own tests: see `roadstead.testing`."""
