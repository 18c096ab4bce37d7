"""Measurements; each module is run by hand and prints what it measured."""
