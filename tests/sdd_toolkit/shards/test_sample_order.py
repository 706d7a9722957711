from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.shards.sample_order import SampleOrder, rank_of_environment

COUNTS = st.integers(1, 60)


@given(COUNTS, st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_an_epoch_reads_everything_once_and_ranks_are_equally_long(
    count: int, batch: int, world: int, epoch: int, shuffle: bool
) -> None:
    ranks = [SampleOrder(count, batch, 3, shuffle, rank, world, drop_last=False) for rank in range(world)]
    read = Counter(int(number) for order in ranks for number in order.samples(epoch))
    assert set(read) == set(range(count))
    assert sum(read.values()) - count == -count % world
    assert {len(order.batches(epoch)) for order in ranks} == {ranks[0].batches_per_epoch}


@given(COUNTS, st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_with_drop_last_nothing_is_read_twice_and_all_batches_are_full(
    count: int, batch: int, world: int, epoch: int
) -> None:
    ranks = [SampleOrder(count, batch, 3, True, rank, world, drop_last=True) for rank in range(world)]
    read = Counter(int(number) for order in ranks for number in order.samples(epoch))
    assert max(read.values(), default=1) == 1
    assert sum(read.values()) == count // world // batch * batch * world
    assert {len(numbers) for order in ranks for numbers in order.batches(epoch)} <= {batch}


@given(COUNTS, st.integers(1, 7), st.integers(0, 9))
def test_the_rest_of_an_epoch_is_what_was_left_of_it(count: int, batch: int, first: int) -> None:
    order = SampleOrder(count, batch, drop_last=False)
    assert order.batches(2, first) == order.batches(2)[first:]


def test_epochs_and_seeds_have_their_own_order_which_never_changes() -> None:
    assert SampleOrder(8, 2, seed=1).samples(0).tolist() == [5, 0, 1, 4, 2, 6, 3, 7]
    assert SampleOrder(8, 2, seed=1).samples(1).tolist() != SampleOrder(8, 2, seed=1).samples(0).tolist()
    assert SampleOrder(8, 2, seed=2).samples(0).tolist() != SampleOrder(8, 2, seed=1).samples(0).tolist()
    np.testing.assert_array_equal(SampleOrder(5, 2, shuffle=False, drop_last=False).samples(7), range(5))


def test_a_rank_that_is_none_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2"):
        SampleOrder(8, 2, rank=2, world_size=2)


def test_the_place_among_ranks_is_read_from_the_environment() -> None:
    assert rank_of_environment({}) == (0, 1)
    assert rank_of_environment({"RANK": "3", "WORLD_SIZE": "4"}) == (3, 4)
