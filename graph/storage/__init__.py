"""The databases that store threads."""
