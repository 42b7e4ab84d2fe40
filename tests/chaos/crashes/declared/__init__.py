"""What the crash harness asks for: an app of its own, with a table that counts effects."""
