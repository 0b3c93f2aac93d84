"""A program: writers, readers, packing and backups at once in a patched process.

`python -m tests.acid.under_load DIRECTORY SEED`. Every append is checked against a model by readers that run all the
time, and everything once more after reopening. Ends with code 0 and a line of JSON when nothing was wrong.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import gevent

from durable_streams.protocol.errors import StreamNotFound
from durable_streams.protocol.requests import Append, Create, ForkSource
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.storage.zodb import AcidStorage, AcidTuning
from durable_streams.storage.zodb.background import ShardBackground
from durable_streams.storage.zodb.maintenance import AcidMaintenance
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore

BYTES = "application/octet-stream"
SHARDS = 2
WRITERS = 8
BACKUPS = 3
BUSY = AcidTuning(interval_s=0.01, index_bytes=50_000, index_age_s=0.05, pack_bytes=100_000, pack_garbage=0.3)


@dataclass
class Load:
    """What was asked for and answered, and how often what was done meanwhile."""

    folder: Path
    random: Random
    asked: dict[str, bytearray] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    packs: int = 0
    reads: int = 0
    backups: int = 0
    stopping: bool = False

    def run(self) -> None:
        storage = AcidStorage(self.folder / "data", SHARDS, tuning=BUSY)
        self._count_packs()
        self.store = StreamStore(storage, Limits())
        self.store.open()
        jobs = [gevent.spawn(self._write, number) for number in range(WRITERS)]
        jobs += [gevent.spawn(self._read) for _ in range(3)]
        self._back_up()
        self.stopping = True
        for job in gevent.joinall(jobs):
            job.get()
        self.store.close()
        self._check_all()

    def _count_packs(self) -> None:
        pack = ShardBackground.pack

        def counted(background: ShardBackground) -> None:
            pack(background)
            self.packs += 1

        ShardBackground.pack = counted  # type: ignore[method-assign]

    def _write(self, number: int) -> None:
        for turn in range(1_000_000):
            name = f"{number}/{turn}"
            self.asked[name] = bytearray()
            self.store.create(Create(name, BYTES, NO_EXPIRY, False, b""))
            self.answered[name] = 0
            for _ in range(self.random.randrange(60)):
                body = self.random.randbytes(self.random.choice((10, 200, 200, 3000, 40_000)))
                self.asked[name] += body
                self.store.append(Append(name, BYTES, body))
                self.answered[name] = len(self.asked[name])
            fork = f"{name}/fork"
            self.asked[fork] = bytearray(self.asked[name])
            self.store.create(Create(fork, BYTES, NO_EXPIRY, False, b"", fork=ForkSource(name, None, 0)))
            self.answered[fork] = len(self.asked[fork])
            if self.random.random() < 0.5:
                old = f"{number}/{turn - 1}/fork"
                if self.asked.pop(old, None) is not None:
                    del self.answered[old]
                    self.store.remove(old)
            if self.stopping:
                return

    def _read(self) -> None:
        while not self.stopping:
            if self.answered:
                self._read_one(self.random.choice(list(self.answered)))
            gevent.sleep(0.001)

    def _read_one(self, name: str) -> None:
        answered, asked = self.answered[name], self.asked[name]
        try:
            state = self.store.find(name)
            assert answered <= state.tail <= len(asked)
            start = self.random.randint(0, state.tail)
            assert self.store.read(state, start, state.tail).data == asked[start : state.tail]
            self.reads += 1
        except StreamNotFound:
            assert name not in self.answered

    def _back_up(self) -> None:
        run = gevent.get_hub().threadpool.apply
        for number in range(BACKUPS):
            gevent.sleep(0.5)
            sure = {name: self.answered[name] for name in self.answered if "fork" not in name}
            target = self.folder / f"backup-{number}"
            report = run(AcidMaintenance().backup, (self.folder / "data", target))
            assert report.problems == [], report.problems
            self._check_backup(target, sure)
            assert run(AcidMaintenance().verify, (self.folder / "data",)).problems == []
            self.backups += 1

    def _check_backup(self, target: Path, sure: dict[str, int]) -> None:
        """Everything that was answered before it began is in it, and nothing that was never asked for."""
        store = StreamStore(AcidStorage(target, SHARDS), Limits())
        store.open()
        for name, answered in sure.items():
            state = store.find(name)
            assert state.tail >= answered
            assert store.read(state, 0, state.tail).data == self.asked[name][: state.tail]
        store.close()

    def _check_all(self) -> None:
        store = StreamStore(AcidStorage(self.folder / "data", SHARDS), Limits())
        store.open()
        assert store.storage.names("", "", 10**6) == sorted(self.asked)
        for name, asked in self.asked.items():
            state = store.find(name)
            assert store.read(state, 0, state.tail).data == asked
        store.close()
        assert AcidMaintenance().verify(self.folder / "data").problems == []


if __name__ == "__main__":
    load = Load(Path(sys.argv[1]), Random(int(sys.argv[2])))
    load.run()
    print(
        json.dumps(
            {"packs": load.packs, "reads": load.reads, "streams": len(load.asked), "backups": load.backups}
        )
    )
