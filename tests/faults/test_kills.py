"""`kill -9` at any moment leaves no half-written file, and the next run ends in the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.faults import builds

RANDOM_KILLS = 100
KILLS_A_CHAIN = 10
CHAINS = 6
SEED = int(os.environ.get("SDD_FAULT_SEED", "0"))
ROUNDS = int(os.environ.get("SDD_FAULT_ROUNDS", "1"))


def killed_after(folder: Path, out: Path, seconds: float) -> int | None:
    child = builds.forked().Process(target=builds.build, args=(folder, out))
    child.start()
    time.sleep(seconds)
    child.kill()
    child.join()
    return child.exitcode


@pytest.mark.parametrize("chain", range(RANDOM_KILLS // KILLS_A_CHAIN * ROUNDS))
def test_a_build_killed_at_random_leaves_nothing_half_done_and_ends_in_the_same_bytes(
    tiny: Path, out: Path, whole_s: float, chain: int
) -> None:
    """Every other kill is at a random time, the others before a random change to the disk."""
    draw = random.Random(f"{SEED} {chain}")
    points = (tiny / "whole.points").read_text().splitlines()
    kills = 0
    while kills < KILLS_A_CHAIN:
        if kills % 2:
            code = killed_after(tiny, out, draw.uniform(0.05, whole_s / 3))
        else:
            code = builds.in_child(builds.build_watched, tiny, out, draw.randrange(len(points) // 5))
        assert code in (0, -signal.SIGKILL), (out.parent / f"{out.name}.error").read_text()
        assert builds.visible_faults(out) == []
        kills += code == -signal.SIGKILL
        if code == 0:
            # It had ended before the kill.
            assert builds.content(out) == builds.content(tiny / "whole")
            shutil.rmtree(out)
    assert builds.in_child(builds.build, tiny, out) == 0
    assert builds.content(out) == builds.content(tiny / "whole")


def test_a_build_killed_before_any_kind_of_change_to_the_disk_ends_in_the_same_bytes(tiny: Path, out: Path) -> None:
    """A build is killed before each operation on each file in turn and taken up again after every kill.

    A resumed build skips some operations; they are left to the next build from the start.
    """
    names = list(dict.fromkeys((tiny / "whole.points").read_text().splitlines()))
    left = names
    for _ in range(CHAINS):
        met = []
        for name in left:
            code = builds.in_child(builds.build_watched, tiny, out, name)
            assert code in (0, -signal.SIGKILL)
            assert builds.visible_faults(out) == []
            if code:
                met.append(name)
        assert builds.in_child(builds.build, tiny, out) == 0
        assert builds.content(out) == builds.content(tiny / "whole")
        shutil.rmtree(out)
        left = [name for name in left if name not in met]
        if set(left) <= {"fsync"}:
            return
    raise AssertionError(f"never killed before {left}")
