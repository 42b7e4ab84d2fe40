"""What can go wrong between this process and the store.

StoreError
└── StoreUnavailable    the store did not answer in time, refused, or its breaker is open: retry later
"""


class StoreError(Exception):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """No answer within the deadline.  A write may or may not have happened; every write here is safe to repeat."""
