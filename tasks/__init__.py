"""Celery: ring the doorbell, claim, run, finish.  LIFECYCLE.md is the state machine.

Invariant: the broker carries hints only; what is true of a job stands in its record.
"""
