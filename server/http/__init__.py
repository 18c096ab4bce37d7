"""What every request passes: its id, its key, the bounds of its body, and how answers leave."""
