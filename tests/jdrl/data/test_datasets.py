from __future__ import annotations

import gc
import multiprocessing
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jdrl.data.datasets import PatchDataset, PatchSample, PatchStream, collate
from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.shards.reader import ShardReader
from tests.support.planted_shards import MakeShards

Place = tuple[str, int, int]


def places(batch: dict[str, Any]) -> list[Place]:
    return list(zip(batch["pair"], batch["top"].tolist(), batch["left"].tolist(), strict=True))


def halved(sample: PatchSample) -> PatchSample:
    return {**sample, "blur": sample["blur"] // 2}


def test_a_patch_is_the_window_its_table_says(shards: Path) -> None:
    data = PatchDataset(shards, "train", masks=True)
    sample, patch = data[4], data.patches[4]
    with ShardReader(shards) as reader:
        window = reader.read_window(patch.pair, patch.top, patch.left, 64, 64)
    assert (sample["pair"], sample["top"], sample["left"]) == (patch.pair, patch.top, patch.left)
    for name, expected in (("blur", window.blur), ("sharp", window.sharp), ("flow", window.flow)):
        np.testing.assert_array_equal(sample[name].permute(1, 2, 0).numpy(), expected)  # type: ignore[literal-required]
    np.testing.assert_array_equal(sample["valid"][0].numpy(), window.valid)


def test_all_patches_of_a_split_are_there_unless_some_are_not_kept(shards: Path) -> None:
    with ShardReader(shards, "train") as reader:
        expected = reader.patches
    assert PatchDataset(shards, "train").patches == expected
    first = PatchDataset(shards, "train", keep=lambda patch: patch.top == 0)
    assert first.patches == tuple(patch for patch in expected if patch.top == 0)
    with pytest.raises(InputError, match="no patches"):
        PatchDataset(shards, "train", keep=lambda patch: False)


def test_a_transform_sees_every_sample(shards: Path) -> None:
    plain, changed = PatchDataset(shards, "train")[0], PatchDataset(shards, "train", transform=halved)[0]
    assert torch.equal(changed["blur"], plain["blur"] // 2)
    assert torch.equal(changed["sharp"], plain["sharp"])


def test_a_data_set_that_has_read_can_be_pickled(shards: Path) -> None:
    data = PatchDataset(shards, "train")
    expected = data[1]
    assert torch.equal(pickle.loads(pickle.dumps(data))[1]["blur"], expected["blur"])


@pytest.mark.parametrize(("workers", "start"), [(2, "fork"), (2, "spawn"), (1, "fork")])
def test_workers_change_nothing_and_live_through_epochs(shards: Path, workers: int, start: str) -> None:
    data = PatchDataset(shards, "train")
    data[0]
    alone = PatchStream(data, 4, seed=5)
    together = PatchStream(data, 4, seed=5, workers=workers, start=start)
    for _ in range(2):
        for expected, found in zip(alone, together, strict=True):
            assert places(found) == places(expected)
            assert torch.equal(found["blur"], expected["blur"])
            assert torch.equal(found["sharp"], expected["sharp"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("read", [0, 1, 3, 6, 8])
def test_a_resumed_stream_goes_on_as_if_nothing_had_happened(shards: Path, workers: int, read: int) -> None:
    data = PatchDataset(shards, "train")
    whole = PatchStream(data, 3, seed=2)
    sequence = [places(batch) for _ in range(3) for batch in whole]
    stream = PatchStream(data, 3, seed=2, workers=workers, start="fork")
    before: list[list[Place]] = []
    state = stream.state_dict()
    while len(before) < read:
        for batch in stream:
            before.append(places(batch))
            state = stream.state_dict()
            if len(before) == read:
                break
    later = PatchStream(data, 3, seed=2, workers=workers, start="fork")
    later.load_state_dict(pickle.loads(pickle.dumps(state)))
    after: list[list[Place]] = []
    while len(before) + len(after) < len(sequence):
        after += [places(batch) for batch in later]
    assert before + after == sequence


def test_a_batch_is_its_samples_stacked_and_lies_channels_last(shards: Path) -> None:
    data = PatchDataset(shards, "train", masks=True)
    batch = collate([data[3], data[5]])
    for key in ("blur", "sharp", "valid", "flow"):
        assert torch.equal(batch[key], torch.stack([data[3][key], data[5][key]]))  # type: ignore[literal-required]
    assert batch["blur"].is_contiguous(memory_format=torch.channels_last)
    assert (batch["pair"], batch["left"].tolist()) == ([data.patches[n].pair for n in (3, 5)], [0, 64])


def test_ranks_share_an_epoch_without_overlap(shards: Path) -> None:
    data = PatchDataset(shards, "train")
    streams = [PatchStream(data, 3, rank=rank, world_size=3, drop_last=False) for rank in range(3)]
    read = [place for stream in streams for batch in stream for place in places(batch)]
    assert len(read) == len(data) == len(set(read))
    assert len({len(stream) for stream in streams}) == 1


def test_the_rank_comes_from_the_environment(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    order = PatchStream(PatchDataset(shards, "train"), 2).order
    assert (order.rank, order.world_size) == (1, 2)
    with pytest.raises(ValueError, match="both"):
        PatchStream(PatchDataset(shards, "train"), 2, rank=1)


def test_the_state_of_another_stream_is_refused(shards: Path) -> None:
    data = PatchDataset(shards, "train")
    with pytest.raises(InputError, match="seed = 1, here it is 2"):
        PatchStream(data, 2, seed=2).load_state_dict(PatchStream(data, 2, seed=1).state_dict())
    part = PatchDataset(shards, "train", keep=lambda patch: patch.left == 0)
    with pytest.raises(InputError, match="content"):
        PatchStream(part, 2).load_state_dict(PatchStream(data, 2).state_dict())


def test_a_batch_that_never_fills_is_refused(shards: Path) -> None:
    with pytest.raises(InputError, match="do not fill one batch"):
        PatchStream(PatchDataset(shards, "train"), 1000)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_batches_are_pinned(shards: Path) -> None:
    batch = next(iter(PatchStream(PatchDataset(shards, "train"), 2, pin_memory=True)))
    assert batch["blur"].is_pinned()


def test_a_shard_damaged_under_the_loader_is_named(make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "set")
    data = PatchDataset(folder, "train")
    path = folder / "train-0000.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) * 3 // 4] = bytes(len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"train-0000\.h5"):
        [data[number] for number in range(len(data))]


def test_a_deleted_stream_and_its_workers_end_at_once(shards: Path) -> None:
    stream = PatchStream(PatchDataset(shards, "train"), 4, workers=1, start="fork")
    first = next(iter(stream))
    assert len(first["pair"]) == 4
    (worker,) = multiprocessing.active_children()
    here = weakref.ref(stream)
    gc.disable()
    try:
        del stream
        # Without the garbage collector, which would close the worker's queue before the worker is told to stop.
        assert here() is None
        worker.join(60)
        assert worker.exitcode == 0
    finally:
        gc.enable()
