"""DBOS's side of `durable.py`: one process that runs workflows of three durable steps, as it is told on standard input.

It runs in an environment of its own, which holds DBOS and nothing of soar. A workflow is called as DBOS documents it:
a function decorated with `@DBOS.workflow()`, from as many threads as were asked for, its steps decorated with
`@DBOS.step()`. The call returns when the workflow's success is durable; that is when a run is finished here.
"""

import json
import queue
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS

FLUSH_SECONDS = 0.1


@DBOS.step()
def step(params):
    """Do nothing."""
    return {"n": params["n"]}


@DBOS.workflow()
def three_steps(title):
    """Each step is given what the one before it found."""
    first = step({"n": title})
    second = step(first)
    return step(second)


class Told:
    """What became of runs, written out ten times a second: a line for each run would be work of its own."""

    def __init__(self, answers):
        self._answers = answers
        self._events = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def submitted(self, name, at):
        self._events.put(("submitted", name, at))

    def finished(self, name):
        self._events.put(("finished", name, time.monotonic()))

    def _write(self):
        while True:
            time.sleep(FLUSH_SECONDS)
            told = {"submitted": {}, "finished": {}, "cpu": time.process_time()}
            while not self._events.empty():
                kind, name, at = self._events.get()
                told[kind][name] = at
            print(json.dumps(told), file=self._answers, flush=True)


def serve(threads, answers):
    """Do what the lines on standard input say, until there are no more."""
    told = Told(answers)
    with ThreadPoolExecutor(threads) as pool:

        def submit(number, at):
            told.submitted(f"{number}", at)
            pool.submit(run, number)

        def run(number):
            three_steps(f"t{number}")
            told.finished(f"{number}")

        for line in sys.stdin:
            work = json.loads(line)
            pick, due = random.Random(work["first"]), time.monotonic()
            for number in range(work["first"], work["first"] + work["count"]):
                if work["rate"]:
                    due += pick.expovariate(work["rate"])
                    time.sleep(max(0.0, due - time.monotonic()))
                submit(number, due if work["rate"] else time.monotonic())


def main():
    """Arguments: the database, how many threads, and a name among the processes on that database."""
    url, threads, name = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may come between the answers
    config = {"name": "bench", "system_database_url": url, "executor_id": name, "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    three_steps("warm")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    serve(int(threads), answers)
    DBOS.destroy()


if __name__ == "__main__":
    main()
