"""The small model of the demo, in a process of its own."""
