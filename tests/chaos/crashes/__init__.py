"""Workers are killed at chosen steps of jobs' lives; then the books are checked.  `python -m tests.chaos.crashes`."""
