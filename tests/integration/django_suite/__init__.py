"""Runs Django's own tests of caches and sessions against our back end, from the source of the pinned Django."""
