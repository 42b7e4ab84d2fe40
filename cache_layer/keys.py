"""The names of everything in the store.  KEYS.md lists them with type, life and reason.

Invariant: no part that a user chooses is ever joined into a name unhashed, save declared resource and tag names, whose
alphabets hold no separator.  `{namespace}` is the hash tag: all keys of one deployment live in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from cache_layer.freshness import Policy


def digest(*parts: str | bytes) -> str:
    """BLAKE2b-128 over length-prefixed parts, as hex: no two different lists of parts share their input."""
    state = blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(b"%c%d:" % (b"s" if isinstance(part, str) else b"b", len(raw)))
        state.update(raw)
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """One question: a resource with its parameters, and what of the principal belongs to it."""

    #: Declared name of the resource.
    name: str
    #: `digest` of schema version, name, parameters and the varying part of the principal.
    digest: str
    #: Canonical topic as clients write it.
    topic: str
    #: Declared tags, sorted.
    tags: tuple[str, ...]
    policy: Policy


class Names:
    """Key and channel names of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._ns = namespace

    def entry(self, key: Key) -> str:
        return f"c:{{{self._ns}}}:e:{key.name}:{key.digest}"

    def version(self, key: Key) -> str:
        return f"c:{{{self._ns}}}:v:{key.name}:{key.digest}"

    def failure(self, key: Key) -> str:
        return self.single(key.name, key.digest)[1]

    def lease(self, key: Key) -> str:
        return self.single(key.name, key.digest)[2]

    def single(self, name: str, digest_: str) -> tuple[str, str, str]:
        """Entry, failure and lease of one value, by the name of its resource and the digest of its key."""
        return (
            f"c:{{{self._ns}}}:e:{name}:{digest_}",  # as `entry`
            f"c:{{{self._ns}}}:x:{name}:{digest_}",
            f"l:{{{self._ns}}}:{name}:{digest_}",
        )

    def everything(self) -> str:
        """The tag that all values of the namespace have."""
        return f"c:{{{self._ns}}}:t"

    def run(self) -> str:
        """Which run of which server the data is of."""
        return f"c:{{{self._ns}}}:run"

    def tag(self, tag: str) -> str:
        return f"c:{{{self._ns}}}:t:{tag}"

    def tags(self, key: Key) -> list[str]:
        """The namespace's own tag, then the declared ones."""
        return [self.everything(), *(self.tag(tag) for tag in key.tags)]

    def tracked(self) -> tuple[str, ...]:
        """Prefixes of all keys that a copy of a value in a process depends on."""
        return (f"c:{{{self._ns}}}:e:", f"c:{{{self._ns}}}:x:", self.everything())

    def job(self, job_id: str) -> str:
        return f"j:{{{self._ns}}}:{job_id}"

    def live(self) -> str:
        """Ids of computations that are not over, by when somebody should look after them."""
        return f"j:{{{self._ns}}}:live"

    def all_jobs(self) -> str:
        """Ids of all computations there is a record of, in the order of their creation (which is that of UUIDv7)."""
        return f"j:{{{self._ns}}}:all"

    def abandonable(self) -> str:
        """Ids of live computations that are given up when nobody wants them any more."""
        return f"j:{{{self._ns}}}:abandonable"

    def stream(self, topic: str) -> str:
        """What is kept of a log."""
        return f"s:{{{self._ns}}}:l:{topic}"

    def stream_position(self, topic: str) -> str:
        """Epoch and offset of a log."""
        return f"s:{{{self._ns}}}:p:{topic}"

    def presence(self, topic: str) -> str:
        """Who is there on a topic."""
        return f"s:{{{self._ns}}}:c:{topic}"

    def log_channel(self, topic: str) -> str:
        return f"p:{{{self._ns}}}:l:{topic}"

    def inbox_channel(self, user_id: str) -> str:
        return f"p:{{{self._ns}}}:i:{user_id}"

    def watching(self, user_id: str) -> str:
        """What a user follows, in all web processes."""
        return f"u:{{{self._ns}}}:{digest(user_id)}"

    def node_channel(self, node: str) -> str:
        """Where a web process hears what the clients of its streams say to others."""
        return f"p:{{{self._ns}}}:node:{node}"

    def control_channel(self) -> str:
        """Where all web processes hear who has lost what."""
        return f"p:{{{self._ns}}}:control"

    def kicks(self) -> str:
        """Users whose connections were ended lately, by when."""
        return f"w:{{{self._ns}}}:kicks"

    def reporters(self) -> str:
        """Web processes that tell what is watched there, by when they are not believed any more."""
        return f"w:{{{self._ns}}}:watch"

    def report(self, process: str) -> str:
        """What is watched in one web process."""
        return f"w:{{{self._ns}}}:watch:{process}"

    def queues(self, part: str = "") -> str:
        """What the keys of the queues begin with; KEYS.md lists the parts."""
        return f"q:{{{self._ns}}}:{part}"

    def waiting(self, queue: str) -> str:
        """Ids of the jobs that wait on a queue, by their place."""
        return self.queues(f"w:{queue}")

    def held(self, worker: str) -> str:
        """What the processes of a worker have taken and not yet finished."""
        return self.queues(f"h:{worker}")

    def lives(self) -> str:
        """Workers, by when their lease runs out."""
        return self.queues("lives")

    def cancels(self) -> str:
        """Running jobs whose end was asked for, and when."""
        return self.queues("cancels")

    def losses(self) -> str:
        """Jobs whose process or worker died, until a reaper has seen after them."""
        return self.queues("losses")

    def history(self, name: str) -> str:
        """How long runs of a resource or action have taken."""
        return self.queues(f"d:{name}")

    def firing(self, job_id: str) -> str:
        """Says that something computed in a web process was fired by the clock: there is no job that would."""
        return f"k:{{{self._ns}}}:{job_id}"

    def brought(self, who: str) -> str:
        """How many keys nobody had asked for a principal has brought this minute, and their values' bytes."""
        return f"r:{{{self._ns}}}:{digest(who)}"

    def role(self, role: str) -> str:
        """Sign of life of a role: `worker` or `worker:<queue>`, `scheduler`."""
        return f"w:{{{self._ns}}}:{role}"

    def broker_prefix(self) -> str:
        """What Celery's own keys begin with, when the broker is this store."""
        return f"b:{{{self._ns}}}:"

    def channel(self, key: Key) -> str:
        return f"p:{{{self._ns}}}:v:{key.name}:{key.digest}"

    def job_channel(self, job_id: str) -> str:
        return f"p:{{{self._ns}}}:j:{job_id}"

    def invalidations(self) -> str:
        return f"p:{{{self._ns}}}:invalidations"

    def near(self) -> str:
        """Where the processes with values of their own hear of invalidations, and say that they have heard."""
        return f"p:{{{self._ns}}}:near"

    def heard(self, who: str) -> str:
        """Where a process hears that others have heard of its invalidations."""
        return f"p:{{{self._ns}}}:heard:{who}"
