"""Declarations the tests ask for.  Each does one thing."""

from __future__ import annotations
