"""What a sleep costs: CPU time of the same small work on and on, and after sleeps. It is why work is done in handfuls.

python scripts/bench_sleep.py
"""

from __future__ import annotations

import json
import statistics
import time

SAMPLE = {"a": [1, 2.5, {"b": None, "c": [True, "x" * 5]}], "d": {"e": 1}}
SLEEPS_S = (0.0, 0.001, 0.008)
CALLS = 500


def work() -> None:
    """Some pure Python: with an indent, the library encodes without its C code."""
    json.dumps(SAMPLE, indent=1)


def cpu_us(sleep_s: float) -> float:
    """Return the median CPU time of a call, in microseconds, each after such a sleep."""
    spent_ns = []
    for _ in range(CALLS):
        if sleep_s:
            time.sleep(sleep_s)
        began_ns = time.thread_time_ns()
        work()
        spent_ns.append(time.thread_time_ns() - began_ns)
    return statistics.median(spent_ns) / 1000


def main() -> None:
    """Print one line for each sleep."""
    for sleep_s in SLEEPS_S:
        print(f"after {1000 * sleep_s:g} ms: {cpu_us(sleep_s):.0f} us of CPU")


if __name__ == "__main__":
    main()
