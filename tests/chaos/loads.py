"""Streams that nothing strikes and that are hard all the same: a product that is slow, a million records that wait."""

import contextlib
import json
import time

import aiohttp

from .oracle import AWAY, Database, Verdict
from .site import until
from .streams import AGAIN_AT_MOST_SECONDS, PATIENCE_SECONDS, Scene, judge, rest, start_workers

MOST_MEGABYTES = 300  # of a worker; it has 120 when it is idle
SLOW_SECONDS = 10.0
SLOW = """
playbook: chaos-slow
description: Needs a product that is slow.
owner: soc
on: {match: {rule.name: slow}}
steps:
  - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}
"""
ENDED = "state IN ('succeeded', 'failed', 'needs_review')"


async def slowed(scene: Scene) -> Verdict:
    """One product takes long for each answer, and is asked more than it can do; the rest must not notice.

    When all records are behind the group and all other runs have ended, most of its runs must not have: had they
    stood in the way of the others, they would have come to their end one among the other.
    """
    (scene.site.config.parent / "playbooks" / "slow.yaml").write_text(SLOW)
    limit(scene, "lab_edr", {"concurrency": 24})  # what keeps its runs from filling every worker
    await fault(scene, "edr", mode="slow", seconds=SLOW_SECONDS)
    await start_workers(scene)
    database = Database(scene.site)
    started = time.monotonic()
    await scene.feed(lambda: True)

    async def others_done() -> bool:
        with contextlib.suppress(*AWAY):
            others = f"SELECT count(*) FROM runs WHERE playbook_id <> 'chaos-slow' AND NOT {ENDED}"
            return scene.unread <= 0 and not (await database.rows(others))[0][0]
        return False

    late = []
    try:
        await until(others_done, seconds=scene.plan.rest_seconds, what="all others have ended")
    except AssertionError as failure:
        late = [str(failure)]
    took = time.monotonic() - started
    counted = f"SELECT count(*) FILTER (WHERE {ENDED}), count(*) FROM runs WHERE playbook_id = 'chaos-slow'"
    ended, all_ = (await database.rows(counted))[0]
    await fault(scene, "edr", mode="slow", seconds=0)
    await rest(scene)
    verdict = await judge(scene)
    verdict.counts |= {"others_done_seconds": round(took, 1), "slow_runs": all_, "of_them_ended_by_then": ended}
    verdict.wrong("held_up", late or ([f"{ended} of {all_} slow runs had ended"] if 2 * ended > all_ else []))
    return verdict


async def fault(scene: Scene, where: str, **switch: object) -> None:
    """Turn a switch of the lab's on."""
    url = f"{scene.site.lab_url}/_faults/{where}"
    async with aiohttp.ClientSession() as http, http.put(url, data=json.dumps(switch)) as answer:
        assert answer.status == 200, await answer.text()


def limit(scene: Scene, instance: str, limits: dict[str, int]) -> None:
    """Configure what a connector instance bears."""
    before = f"{instance}: {{use: {instance}, "
    text = scene.site.config.read_text()
    assert before in text
    scene.site.config.write_text(text.replace(before, f"{before}limits: {json.dumps(limits)}, "))


async def waiting(scene: Scene, *, consumed: int) -> Verdict:
    """All records wait before a worker starts. It begins at once, and holds no more of them than it needs."""
    await scene.feed(lambda: True)
    await start_workers(scene)
    first = await scene.watch.beyond(0, seconds=300)
    took = await scene.watch.beyond(consumed, seconds=1800)
    left = scene.unread
    for slot in sorted(scene.site.workers):
        await scene.site.workers[slot].stop(PATIENCE_SECONDS)
    verdict = await judge(scene, to_the_end=False)
    verdict.counts |= {
        "waited": scene.feeder.acknowledged,
        "still_waiting_when_stopped": left,
        "first_committed_seconds": round(first, 1),
        "consumed_a_second": round((scene.feeder.acknowledged - left) / (first + took)),
    }
    verdict.wrong("began_too_late", [f"{first:.1f} s"] if first > AGAIN_AT_MOST_SECONDS else [])
    most = scene.watch.most_megabytes
    verdict.wrong("memory_beyond_its_bound", [f"{most} MB"] if most > MOST_MEGABYTES else [])
    return verdict
