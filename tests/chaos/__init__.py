"""The whole service under faults, in bounded rounds; after each the books are checked.  `python -m tests.chaos`."""
