"""What a change outdates, from the statement to the store: seen, collected, written down, done after the commit."""
