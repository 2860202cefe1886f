"""Loops that bring what is to what is wanted."""
