"""The tests of centrifuge-python against our service, from the source of the pinned version."""
