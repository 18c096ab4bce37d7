"""Sessions: their names, the tree of their turns, and the runs in them."""
