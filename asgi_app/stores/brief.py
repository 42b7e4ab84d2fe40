"""A policy under which the data store keeps a value briefly, because it is kept elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cache_layer.freshness import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief(Policy):
    """Fresh as the policy it was made of, and gone after `kept` seconds."""

    kept: float

    @property
    def life(self) -> float:
        """Seconds until the data store drops it."""
        return self.kept


def briefly(policy: Policy, kept: float) -> Brief:
    """`policy` with a life of `kept` seconds at the most."""
    values = {field.name: getattr(policy, field.name) for field in fields(Policy)}
    return Brief(**values, kept=min(kept, policy.life))
