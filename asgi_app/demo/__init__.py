"""The demo on real data: the flights that left New York City in 2013, replayed; and this machine's own load.

Copy this package to begin your own: `resources.py` is all that Millpond needs to see.
"""
