"""A cache of open shards: at most 32 a process, opened anew after a fork, none after pickling."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sdd_toolkit.shards.arrays import map_file
from sdd_toolkit.shards.conformance import READ_ERRORS
from sdd_toolkit.shards.index import damaged_shard_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sdd_toolkit.records import ShardInfo
    from sdd_toolkit.shards.conformance import ShardFile

_MAX_OPEN = 32
PartT = TypeVar("PartT")


@dataclass(frozen=True, slots=True)
class OpenShard(Generic[PartT]):
    """An open file, its mapped bytes if it has any, and the parts that a reader caches until it is closed."""

    file: ShardFile
    content: memoryview | None
    parts: dict[str, PartT] = field(default_factory=dict)


class ShardCache(Generic[PartT]):
    """The open shards of one reader; the least recently used is closed first.

    Args:
        opener: Opens a shard after checking it.
    """

    def __init__(self, opener: Callable[[ShardInfo], ShardFile]) -> None:
        self._opener = opener
        self._shards: dict[str, OpenShard[PartT]] = {}
        self._process = os.getpid()

    @contextmanager
    def open(self, shard: ShardInfo) -> Iterator[OpenShard[PartT]]:
        """The shard, opened if it is not; errors of reading it become an `IntegrityError` that names it."""
        try:
            yield self._open(shard)
        except READ_ERRORS as error:
            raise damaged_shard_error(shard.name, str(error)) from error

    def close(self) -> None:
        """Closes all open shards."""
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
