"""The HTTP face: one file per noun."""
