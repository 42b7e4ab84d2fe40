"""Lost work is found: jobs whose process or worker died, whose message was lost, that nobody wants, or that waited too
long are set going again, or end.

Invariant: any number of reapers may run; what each does for a job is one atomic step that asks for the attempt it has
seen, and is harmless twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

import msgspec

from asgi_app import backlog, ledger
from asgi_app.computing import problem_bytes
from asgi_app.errors import ComputationTimeout, MillpondError, Unavailable
from asgi_app.jobs import Fields
from asgi_app.models import Job
from asgi_app.registry import registry
from asgi_app.rows import in_database
from asgi_app.wiring import Node
from cache_layer.errors import StoreUnavailable
from cache_layer.queues import LEASE, Held, Kind, Lost, Ticket
from cache_layer.records import MAX_CRASHES, Ending
from tasks.app import queues
from tasks.computation import end_computation, give_up
from tasks.rounds import keep

log = logging.getLogger(__name__)

#: Seconds between two rounds in the store, between two looks at the whole of it, and between two clean-ups; jittered.
ROUND, LOOK, SWEEP = 0.5, 2.0, 60.0
#: Seconds between two comparisons of what the database says waits with what does; and what is left to who is at it: a
#: worker that died with what it had taken is known to be dead after its lease.
COMPARE, _SETTLED = 5.0, LEASE + 5.0
#: Seconds after which the first crash of a job is made up for, and the second: what kills its worker at once would else
#: kill a machine's in a moment.
_AFTER_CRASH = (0.0, 1.0)
#: Rows that are looked at together.
_MOST = 1000


class Reaper:
    """Looks after the jobs of one deployment; `keep_reaping` runs it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._queues = [(queue, node.doorbell.lists(queue)) for queue in queues()]
        #: Running actions that their living workers do not hold: since when, monotonic.
        self._unheld: dict[tuple[str, int], float] = {}
        #: Up to which id waiting actions have been compared with the queues.
        self._compared = ""

    async def round(self) -> None:
        """What is due is put on its queue, lost rings are rung again, and losses are seen after.

        Raises StoreUnavailable.
        """
        found = await self._node.queues.round(self._queues)
        for queue, times in found.rings.items():
            if not await self._node.submitter.ring(queue, times=times):
                await self._node.queues.not_rung(queue)
        # Computations first: they need no database, and one that hangs lets each action wait for seconds.
        for job_id, lost in sorted(found.lost.items(), key=lambda one: one[1].kind == "action"):
            if not await self._see_after(job_id, lost):
                break

    async def look(self) -> None:
        """What stands in the middle of two steps is put right.  Raises StoreUnavailable, Unavailable."""
        rings, unwanted = await self._node.records.examine()
        for queue in rings:
            await self._node.submitter.ring(queue)
        for job_id in unwanted:
            log.info("job %s: nobody wants it any more", job_id)
            await self._node.records.cancel(job_id)
        await self._look_at_actions()

    async def _see_after(self, job_id: str, lost: Lost) -> bool:
        """False: the database is away, and others need not be tried now."""
        try:
            if lost.kind == "action":
                await self._see_after_action(job_id, lost)
            else:
                await self._see_after_computation(job_id, lost)
        except MillpondError as error:
            log.warning("job %s: was lost, and not seen after: %s", job_id, error.detail)
            return not isinstance(error, Unavailable)
        except StoreUnavailable:
            raise
        except Exception:  # of this job; the others must not wait for it
            log.exception("job %s: was lost, and not seen after", job_id)
        else:
            await self._node.queues.seen_after(job_id, lost)
        return True

    async def _see_after_computation(self, job_id: str, lost: Lost) -> None:
        ticket = _ticket(job_id, lost, "computation")
        if lost.fence == 0:  # taken, and not claimed; or claimed just before the end
            fields = await self._node.records.get(job_id) or {}
            waits = fields.get("status") in ("queued", "retrying")
            if waits and int(fields.get("unclaimed", 0)) >= MAX_CRASHES - 1:
                await self._bury(ticket, fields, lost)
                return
            if waits:
                bell = self._node.doorbell.bell(job_id, queue=lost.queue, priority=lost.priority)
                if await self._node.queues.enqueue(ticket, bell, in_front=True, lost=True):
                    await self._node.submitter.ring(lost.queue)
                return
            if fields.get("status") != "running":
                await give_up(self._node, ticket, lost.worker)
                return
            if (fields.get("worker"), fields.get("pid")) != (lost.worker, str(lost.pid)):
                return
            lost = msgspec.structs.replace(lost, fence=int(fields["fence"]))
        how: Ending = "died"
        problem = b""
        if lost.reason == "limit":
            how, problem = "failed", problem_bytes(_late())
        elif lost.reason == "cancelled":
            how = "cancelled"
        ended = await end_computation(self._node, ticket, lost.fence, how, lost.worker, problem, 0.0)
        if ended.status:
            log.warning("job %s: attempt %d was lost (%s): %s", job_id, lost.fence, lost.reason, ended.status)

    async def _bury(self, ticket: Ticket, fields: Fields, lost: Lost) -> None:
        """End a computation that kills every process before its claim: `tags` and `vary` are the author's code."""
        claim = await self._node.records.claim(
            ticket, None, fields["lease"], worker=lost.worker, pid=lost.pid, within=60.0, token=f"buried {lost.pid}"
        )
        if claim.what == "claimed":
            await end_computation(self._node, ticket, claim.fence, "dead", lost.worker)
            log.warning("job %s: killed %d processes before its claim: dead", ticket.job_id, MAX_CRASHES)

    async def _see_after_action(self, job_id: str, lost: Lost) -> None:
        row = await in_database(ledger.get, job_id)
        if row is not None and row.status == "running" and not await self._is_attempt(row, lost):
            return
        due = 0.0 if row is None else await in_database(backlog.seconds_until_due, row)
        ticket = _ticket(job_id, lost, "action")
        await self._release(ticket, lost.worker, over=row is None)
        if row is None or row.status in ledger.TERMINAL:
            return
        if row.status == "running":
            await self._action_lost(row, lost.reason)
        else:
            await self._node.submitter.put_on_queue(ticket, due=due, in_front=due == 0)

    async def _release(self, ticket: Ticket, worker: str = "", *, over: bool) -> None:
        going_on = await self._node.queues.release(ticket, worker=worker, over=over)
        if going_on:
            await self._node.submitter.ring(going_on)

    async def _is_attempt(self, row: Job, lost: Lost) -> bool:
        """Whether what was lost is the newest attempt, and not one before it that another reaper has seen after."""
        if row.worker != lost.worker or lost.fence:
            return row.worker == lost.worker and row.fence == lost.fence
        raw = await self._node.store.command("HGET", self._node.store.names.held(lost.worker), str(row.id))
        return raw is None or msgspec.json.decode(raw, type=Held).pid == lost.pid

    async def _action_lost(self, row: Job, reason: str) -> None:
        job_id, ticket = str(row.id), ledger.ticket(row)
        if reason == "limit":
            ended = await in_database(ledger.end, row, "failed", problem=problem_bytes(_late()), outcome="limit")
            status = "failed" if ended else ""
        elif reason == "cancelled":
            status = "cancelled" if await in_database(ledger.end, row, "cancelled") else ""
        else:
            due = _AFTER_CRASH[min(row.crashes, len(_AFTER_CRASH) - 1)]
            status = await in_database(ledger.died, row, due=due)
            if status == "queued":
                await self._node.submitter.put_on_queue(ticket, due=due, in_front=due == 0)
        if status:
            log.warning("job %s: attempt %d was lost (%s): %s", job_id, row.fence, reason, status)
            await self._node.queues.tell(job_id)
        if status not in ("", "queued"):
            await self._release(ticket, row.worker, over=True)

    async def _look_at_actions(self) -> None:
        for row in await in_database(_expired):
            await self._release(ledger.ticket(row), over=True)
        rows = await in_database(backlog.running, most=_MOST)
        workers = sorted({row.worker for row in rows})
        dead = await self._node.queues.expired(workers)
        held = {worker: await self._node.queues.held(worker) for worker in workers if worker not in dead}
        unheld: dict[tuple[str, int], float] = {}
        now = time.monotonic()
        for row in rows:
            seen = (str(row.id), row.fence)
            if row.worker in dead:
                await self._action_lost(row, "died")
            elif not _is_held(row, held[row.worker]):
                unheld[seen] = self._unheld.get(seen, now)
                if now - unheld[seen] > LEASE:
                    await self._action_lost(row, "died")
            elif row.cancel_at is not None:
                await self._remind(str(row.id))
        self._unheld = unheld

    async def compare(self) -> None:
        """Actions that wait, as the database says, and stand on no queue are put there by the relay: their place was
        lost, or whoever took them has not claimed them.  Raises StoreUnavailable, Unavailable."""
        ids = await in_database(backlog.said_to_wait, self._compared, older_than=_SETTLED, most=_MOST)
        self._compared = ids[-1] if len(ids) == _MOST else ""
        waits = await self._node.queues.waits(ids)
        missing = [job_id for job_id, there in zip(ids, waits, strict=True) if not there]
        if missing:
            log.warning("%d actions stood on no queue", await in_database(backlog.not_on_queue, missing))

    async def _remind(self, job_id: str) -> None:
        """Of a wish to cancel that the store has lost."""
        cancels = self._node.store.names.cancels()
        if not await self._node.store.command("HEXISTS", cancels, job_id):
            await self._node.queues.ask_for_end(job_id)

    async def sweep(self) -> None:
        """Forget what is past.  Raises StoreUnavailable, Unavailable."""
        await self._node.records.sweep()
        await self._node.queues.forget_cancels()
        routine = [action.name for action in registry.actions.values() if action.schedule is not None]
        kept = self._node.env.job_retention
        while await in_database(backlog.purge, older_than=kept, most=_MOST, routine=routine) >= _MOST:
            pass  # more may end in a minute than are deleted at once


def _expired() -> list[Job]:
    return ledger.expire(backlog.overdue(most=_MOST))


def _is_held(row: Job, by_its_worker: Mapping[str, Held]) -> bool:
    """Taken is not enough: whoever has claimed it says so with the number of the attempt, at the next beat at last."""
    found = by_its_worker.get(str(row.id))
    return found is not None and found.fence == row.fence


def _ticket(job_id: str, lost: Lost, kind: Kind) -> Ticket:
    return Ticket(job_id=job_id, kind=kind, queue=lost.queue, priority=lost.priority, lane=lost.lane)


def _late() -> ComputationTimeout:
    return ComputationTimeout("it took longer than its time limit, and was ended by force", extra={"reason": "limit"})


async def keep_reaping(node: Node) -> None:
    """Rounds until cancelled."""
    reaper = Reaper(node)
    turns = ((reaper.round, ROUND), (reaper.look, LOOK), (reaper.compare, COMPARE), (reaper.sweep, SWEEP))
    await asyncio.gather(*(keep(work, every, "lost work was not looked for") for work, every in turns))
