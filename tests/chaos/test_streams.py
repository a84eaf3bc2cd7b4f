"""Quick form of `make chaos-kafka`: a broker, workers and a topic full of nonsense, all at once; and its ledger."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from . import ledger
from .databases import schema_on
from .fleet import ROOT
from .records import Made, Mix
from .streams import Scene, Stream, open_scene, play, spec_of
from .streams import ledger as counted

SEED = 20260105
QUICK = Stream(
    records=2500, mix=Mix(malformed=0.3, acting=0.03), per_second=400, broker_away_seconds=(3,), worker_blows=3,
    between_seconds=(0.2, 1.0), lease_seconds=6, sending=False,
    again_seconds=200,  # a busy machine is no bug
)  # fmt: skip
FALSIFIED = """
DELETE FROM dead_letters WHERE id = (
    SELECT max(id) FROM dead_letters WHERE coordinates NOT IN (SELECT coordinates FROM alerts));
INSERT INTO dead_letters SELECT 'twice', coordinates, code, reason, at, record, sent FROM dead_letters LIMIT 1;
INSERT INTO dead_letters SELECT 'of nothing', 'kafka/t@c/0/0', code, reason, at, record, sent FROM dead_letters LIMIT 1;
UPDATE runs SET state = 'waiting' WHERE id = '{0}';
UPDATE runs SET alert_id = NULL WHERE id = '{1}';
UPDATE alerts SET outcome = 'suppressed' WHERE id = (SELECT alert_id FROM runs WHERE id = '{2}');
"""


@pytest.mark.usefixtures("kafka")  # whose jars a broker of our own runs on
@pytest.mark.timeout(300)
async def test_a_stream_survives_its_broker_and_its_workers(postgres: str, tmp_path: Path) -> None:
    async with (
        schema_on(postgres) as database,
        open_scene(tmp_path, seed=SEED, plan=QUICK, database=database) as scene,
    ):
        verdict = await play(scene)
        counts = verdict.counts
        assert not verdict.problems, counts
        assert counts["committed"] >= QUICK.records
        assert counts["blows"] == {"broker_killed": 1, "worker_leave": 1, "worker_stop": 1, "worker_kill": 1}
        assert set(counts["outcomes"]) == {"matched", "no_match", "duplicate", "dead_letter"}
        assert len(counts["malformed"]) >= 12
        await check_that_the_ledger_sees(scene)


async def check_that_the_ledger_sees(scene: Scene) -> None:
    """Every witness is falsified, and found out."""
    db = await asyncpg.connect(scene.site.database)
    rows = await db.fetch("SELECT runs.id, uid FROM runs JOIN alerts ON alerts.id = alert_id ORDER BY runs.id LIMIT 6")
    (*ids, _, _, _), (*_, ticketed, told, unpaged) = zip(*rows, strict=True)
    await db.execute(FALSIFIED.format(*ids))
    await db.close()
    await scene.feeder.send([(Made(b"unread", (), "dead_letter"), 0)])
    lines = [(line, *ledger.about(json.loads(line))) for line in scene.site.lab_log.read_text().splitlines()]
    kept = [line for line, tag, what in lines if (tag, what) != (unpaged, "page")]
    twice = [line for line, *did in lines if did in ([ticketed, "ticket"], [told, "say"])]
    stranger = twice[-1].replace(told, "stranger").replace(ticketed, "stranger")
    scene.site.lab_log.write_text("".join(f"{line}\n" for line in (*kept, *twice, stranger)))
    verdict = await counted(replace(spec_of(scene), acknowledged=scene.feeder.acknowledged + 1))
    wrong = [problem.partition(":")[0] for problem in verdict.problems]
    assert {name: verdict.counts[name] for name in wrong} == {
        "acknowledged_and_not_in_topic": 1,
        "not_committed": 1,
        "lost": 2,  # the one that was deleted, and the one that nobody has read
        "outcomes_of_nothing": 1,
        "wrong_outcomes": 2,
        "alerts_without_their_one_run": 1,
        "runs_of_nothing": 1,
        "runs_not_at_rest": 1,
        "effects_of_nothing": 1,
        "effects_twice": 2,
        "keys_with_two_effects": 1,
        "unsafe_calls_beyond_one": 1,
        "succeeded_without_all_effects": 3,
    }


def test_the_ledger_shares_no_code_with_soar() -> None:
    """Neither by what it imports nor by what that imports."""
    tree = ast.parse(Path(ledger.__file__).read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {f"{'.' * node.level}{node.module}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in named if name.startswith((".", "soar", "tests"))]
    program = "import sys, tests.chaos.ledger; print([name for name in sys.modules if name.split('.')[0] == 'soar'])"
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert printed.stdout == "[]\n"
