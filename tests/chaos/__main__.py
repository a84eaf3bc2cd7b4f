"""`make chaos`."""

import asyncio, sys, tempfile, json, time
from pathlib import Path
from .kills import Kills, kills
from .restarts import Restarts, restarts
from .databases import schema_on

PG = "postgresql://"
from soar import logs


async def main():
    logs.configure(level="error")
    import signal

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    with tempfile.TemporaryDirectory() as d:
        t = time.time()
        what, seed, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        folder = Path(sys.argv[4]) if len(sys.argv) > 4 else Path(d)
        if what == "kills":
            v = await kills(folder / "x", seed=seed, plan=Kills(rounds=n))
        elif what == "pgkills":
            import os

            async with schema_on(os.environ["PG"]) as db:
                v = await kills(folder / "x", seed=seed, plan=Kills(rounds=n, workers=3), database=db)
        elif what == "restarts":
            v = await restarts(folder / "x", seed=seed, plan=Restarts(runs=n))
        print(json.dumps(v.counts))
        print(v.problems, time.time() - t)


asyncio.run(main())
