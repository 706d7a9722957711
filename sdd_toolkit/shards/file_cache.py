"""Which shards a process has open: few at a time, its own after a fork, none after pickling."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sdd_toolkit.shards.arrays import map_file
from sdd_toolkit.shards.index import damaged_shard_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import h5py

    from sdd_toolkit.records import ShardInfo

_MAX_OPEN = 32
PartT = TypeVar("PartT")


@dataclass(frozen=True, slots=True)
class OpenShard(Generic[PartT]):
    """An open file, its bytes if it can be mapped, and what a reader keeps of it until it is closed."""

    file: h5py.File
    content: memoryview | None
    parts: dict[str, PartT] = field(default_factory=dict)


class ShardCache(Generic[PartT]):
    """The open shards of one reader, the least recently used closed first.

    Args:
        opener: Opens a shard after checking it.
    """

    def __init__(self, opener: Callable[[ShardInfo], h5py.File]) -> None:
        self._opener = opener
        self._shards: dict[str, OpenShard[PartT]] = {}
        self._process = os.getpid()

    @contextmanager
    def reading(self, shard: ShardInfo) -> Iterator[OpenShard[PartT]]:
        """The shard, opened if need be; what goes wrong meanwhile is told as damage of this shard."""
        try:
            yield self._open(shard)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise damaged_shard_error(shard.name, str(error)) from error

    def close(self) -> None:
        """Closes all of them."""
        shards, self._shards = self._shards, {}
        for shard in shards.values():
            shard.file.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    def __copy__(self) -> ShardCache[PartT]:
        return ShardCache(self._opener)

    def _open(self, shard: ShardInfo) -> OpenShard[PartT]:
        if self._process != os.getpid():
            self._process, self._shards = os.getpid(), {}
        opened = self._shards.pop(shard.name, None)
        if opened is None:
            file = self._opener(shard)
            opened = OpenShard(file, map_file(file))
        while len(self._shards) >= _MAX_OPEN:
            self._shards.pop(next(iter(self._shards))).file.close()
        self._shards[shard.name] = opened
        return opened
