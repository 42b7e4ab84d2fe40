"""One suite for every broker: what is promised of jobs holds whatever rings for them."""
