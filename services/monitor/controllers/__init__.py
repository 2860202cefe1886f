"""Loops of the monitor."""
