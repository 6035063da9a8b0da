"""Everyday jobs, each with the fewest calls that can do it (`make evaluate` prints the table)."""
