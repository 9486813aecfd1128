"""The crash matrix: whatever is killed at whatever step, a whole release serves, and the next `up` converges.

REHOST_CRASHES=all tries every step with every victim (some minutes); else a few, chosen by REHOST_CRASH_SEED (1).
"""

from __future__ import annotations

import os
import random
import sys

from crashes import cells, ground, table
from suite import SUMMARY, Lab, Laptop

SEED = int(os.environ.get("REHOST_CRASH_SEED", "1"))
FEW = 3


def test_either_release_serves_and_the_next_up_converges(tiny: Laptop, lab: Lab) -> None:
    chosen = cells()
    if os.environ.get("REHOST_CRASHES") != "all":
        chosen = random.Random(SEED).sample(chosen, FEW)  # noqa: S311
    found = {}
    with ground(tiny, lab, SEED) as here:
        for step, victim in chosen:
            found[step, victim] = one = here.crash(step, victim)
            sys.stdout.write(f"{victim} killed at {step}: {one}\n")
            sys.stdout.flush()
    SUMMARY.append(
        f"crashes, seed {SEED} (who served then; how the deploy ended; what the next up did):\n{table(found)}"
    )
    assert {where: one.wrong for where, one in found.items() if one.wrong} == {}
    assert {one.served for one in found.values()} <= {"old", "new"}
