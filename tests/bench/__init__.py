"""Figures, never asserted in time: `make bench` prints them beside their peers of the same run."""
