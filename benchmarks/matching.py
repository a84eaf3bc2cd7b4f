"""What matching one alert costs against 10, 1,000 and 10,000 playbooks that mostly do not match.

python benchmarks/matching.py [--json]. The three sizes are measured in turns within one run, so that their ratio
holds on a noisy machine; each figure is the median of the rounds.
"""

import json
import statistics
import sys
import time

from soar.library.index import TriggerIndex
from soar.library.parse import parse

SIZES = (10, 1_000, 10_000)
ROUNDS = 40
ALERTS = 50

PURE = "{{match: {{source: [s{a}, s{b}], rule.id: [rule-{n}, rule-{b}]}}}}"
MIXED = (
    PURE,
    "{{match: {{source: s{a}, severity: {{at_least: high}}, severity_score: {{at_least: {b}}}}}}}",
    "{{match: {{source: s{a}, entities.hosts.name: [host-{n}]}}, where: length(entities.hosts) > `0`}}",
    "{{match: {{source: s{a}, title: {{prefix: Nothing {n}}}}}}}",
)


def playbooks(count, triggers):
    """Playbooks with numbered triggers."""
    found = []
    for number in range(count):
        on = triggers[number % len(triggers)].format(n=number, a=number % 20, b=number % 97)
        text = f"playbook: p{number}\ndescription: d\nowner: o\non: {on}\nsteps: [{{stop: succeeded}}]\n"
        found.append(parse(text, "p.yaml").playbook)
    return found


def alerts():
    """Alerts of the usual shape, each of another rule and source."""
    return [
        {
            "source": f"s{number % 20}",
            "severity": "medium",
            "severity_score": 50,
            "title": f"Something {number}",
            "rule": {"id": f"rule-{number * 37}", "name": None},
            "entities": {"hosts": [{"name": f"host-{number}"}], "users": []},
        }
        for number in range(ALERTS)
    ]


def measure(triggers):
    """Median microseconds per alert, by number of playbooks."""
    indexes = {size: TriggerIndex(playbooks(size, triggers)) for size in SIZES}
    documents = alerts()
    times = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size, index in indexes.items():
            started = time.perf_counter()
            for document in documents:
                index.match(document)
            times[size].append((time.perf_counter() - started) / len(documents) * 1e6)
    return {size: statistics.median(taken) for size, taken in times.items()}


def main():
    """Print the figures and the ratio of the largest set to the smallest."""
    results = {"pure": measure([PURE]), "mixed": measure(MIXED)}
    ratios = {name: figures[SIZES[-1]] / figures[SIZES[0]] for name, figures in results.items()}
    if "--json" in sys.argv:
        print(json.dumps({"microseconds": results, "ratio": ratios}))
        return
    for name, figures in results.items():
        row = "  ".join(f"{size:>6,}: {figures[size]:7.2f} us" for size in SIZES)
        print(f"{name:6} {row}   10,000 cost {ratios[name]:.1f} times what 10 cost")


if __name__ == "__main__":
    main()
