"""A corruption campaign: ``python -m benchmarks.corruption --cases 1000 --seed N``.

Each case damages one volume of a random tape set at random and lets every reader loose on it; every
25th damages volumes of a small site and restores all of it. Nothing wrong may come back as good,
nothing may crash without a named error, nothing may hang. The damage depends on seed and number of
a case alone (``--only NUMBER`` runs it again), the keys and what age makes of them do not: so the
files of a case that fails are kept with ``--keep``. The exit status is 1 when a case fails.
"""

import argparse
import base64
import faulthandler
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from benchmarks.corruption_checks import Truth, VolumeChecks, WrongBytes
from restore_lib.catalog import tables
from restore_lib.model.states import ItemState
from restore_lib.restore.request import RestoreSpec
from restore_lib.tape.age import Recipients, load_identities, new_identity
from tests.support.sites import back_up, digests, image, make_site, open_site, restore, write_files
from tests.support.spoil import spoil
from tests.support.tape_sets import Shape, Source, source, write_set

SITE_EVERY = 25
CASES_A_SET = 20
LIMIT_SECONDS = 30
POLICY = 'k = 2\nm = 1\nblock_size = "2KiB"\nsegment_size = "64KiB"'


class Hang(BaseException):
    """A case took longer than it may; no reader can catch it by accident."""


@dataclass
class Failure:
    """A case that broke the promise."""

    case: int
    kind: str
    damage: list[str]
    what: str


@dataclass
class Report:
    """What a campaign came to."""

    seed: int
    cases: int = 0
    restores: int = 0
    seconds: float = 0.0
    damage: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the report in plain JSON."""
        return {
            "seed": self.seed,
            "cases": self.cases,
            "restores": self.restores,
            "seconds": round(self.seconds, 1),
            "damage": dict(sorted(self.damage.items())),
            "seen": dict(sorted(self.seen.items())),
            "failures": [vars(failure) for failure in self.failures],
        }


class Campaign:
    """Runs cases below ``folder``; the files of those that fail go to ``keep``, if it is given."""

    def __init__(self, seed: int, folder: Path, keep: Path | None = None) -> None:
        self.report = Report(seed)
        self._folder = folder
        self._keep = keep
        self._truths: dict[int, Truth] = {}
        self._site = folder / "site"
        self._case = folder / "case"

    def run(self, numbers: range) -> Report:
        """Run cases and return what they came to."""
        began = time.monotonic()
        for number in numbers:
            draw = random.Random(f"{self.report.seed} {number}")
            damage: list[str] = []
            restores = number % SITE_EVERY == SITE_EVERY - 1
            try:
                with time_limit(LIMIT_SECONDS):
                    (self._restore if restores else self._readers)(number, draw, damage)
            except Hang:
                self._fail(number, "hang", damage)
            except WrongBytes as error:
                self._fail(number, "wrong bytes", damage, str(error))
            except Exception:  # noqa: BLE001  # finding any is what the campaign is for
                self._fail(number, "crash", damage, traceback.format_exc())
            shutil.rmtree(self._case, ignore_errors=True)
            self.report.cases += 1
            self.report.restores += restores
            self.report.damage.update(damage)
        self.report.seconds = time.monotonic() - began
        return self.report

    def _fail(self, number: int, kind: str, damage: list[str], what: str = "") -> None:
        self.report.failures.append(Failure(number, kind, damage, what))
        if self._keep is not None and self._case.exists():
            shutil.copytree(self._case, self._keep / f"{self.report.seed}-{number}")

    def _readers(self, number: int, draw: random.Random, damage: list[str]) -> None:
        truth = self._truth(number // CASES_A_SET)
        shape = truth.made.shape
        position = draw.randrange(shape.k + shape.m)
        kinds, data = spoil(draw, truth.made.image(position))
        damage += kinds
        self._case.mkdir()
        shutil.copy(self._folder / "key.txt", self._case)
        path = self._case / f"{truth.made.labels[position].barcode}.tap"
        path.write_bytes(data)
        checks = VolumeChecks(truth, position, path, draw)
        checks.run()
        self.report.seen.update(checks.seen)

    def _truth(self, number: int) -> Truth:
        if number not in self._truths:
            draw = random.Random(f"{self.report.seed} set {number}")
            identity, recipient = new_identity()
            (self._folder / "key.txt").write_text(identity)
            k, m = draw.randint(1, 6), draw.randint(0, 3)
            block_size, stripes = draw.choice((512, 1024, 4096)), draw.randint(1, 3)
            shape = Shape(k, m, block_size, stripes, cut=draw.choice((700, 5000, 1 << 20)))
            recipients = Recipients.parse([recipient])
            made = write_set(self._folder, shape, list(_sources(draw)), recipients, spread=draw)
            self._truths = {number: Truth(made, load_identities(self._folder / "key.txt"))}
        return self._truths[number]

    def _restore(self, _number: int, draw: random.Random, damage: list[str]) -> None:
        if not self._site.exists():
            made = make_site(self._site, policy=POLICY, capacity="300KB")
            names = random.Random(f"{self.report.seed} site")
            contents = {b"%03d" % n: names.randbytes(n * 137) for n in range(40)}
            write_files(self._site / "live", contents | {b"cut": names.randbytes(90_000)})
            back_up(made)
            made.close()
        copy = self._case
        shutil.copytree(self._site, copy)
        site = open_site(copy)
        try:
            lost = draw.choice((1, 1, 1, 2))
            for position in draw.sample(range(3), lost):
                path = image(site, f"TF{position:04}L9")
                kinds, data = spoil(draw, path.read_bytes())
                damage += kinds
                path.write_bytes(data)
            request_id = restore(site, RestoreSpec(store="live", prefix=b"", target="out"), 40)
            with site.catalog.read() as connection:
                query = select(tables.items.c.key, tables.items.c.state)
                found = connection.execute(query.where(tables.items.c.request_id == request_id))
                states = {row.key: row.state for row in found}
        finally:
            site.close()
        live, out = digests(copy / "live"), digests(copy / "out")
        if not out.items() <= live.items():
            raise WrongBytes("a restored object is not what was backed up")
        restored = {key for key, state in states.items() if state == ItemState.RESTORED}
        if restored != set(out) or set(states) != set(live):
            raise WrongBytes("what was restored and what was said to be restored differ")
        if lost == 1 and out != live:
            raise WrongBytes(f"one volume lost cost {len(live) - len(out)} objects")
        self.report.seen["restore: all" if out == live else "restore: some named"] += 1


def _sources(draw: random.Random) -> Iterator[Source]:
    for number in range(draw.randint(1, 12)):
        size = draw.choice((0, 1, 100, 3000, 20_000))
        data = draw.randbytes(size) if draw.random() < 0.5 else b"text " * (size // 5)
        name = base64.b32encode(draw.randbytes(draw.randint(0, 20)))
        yield source(b"%d-%s" % (number, name), data)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in the block after ``seconds``; where even that can't be, end the process."""

    def expire(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, expire)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        faulthandler.dump_traceback_later(3 * seconds, exit=True)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


def show(report: Report) -> None:
    """Print a report for people."""
    print(f"seed {report.seed}: {report.cases} cases, {report.restores} of them whole restores,")
    print(f"in {report.seconds:.0f} s; {len(report.failures)} failed")
    for title, counts in (("damage", report.damage), ("outcome", report.seen)):
        print(f"\n{'times':>7}  {title}")
        for name, count in sorted(counts.items()):
            print(f"{count:7}  {name}")
    for failure in report.failures:
        print(f"\ncase {failure.case}: {failure.kind} after {', '.join(failure.damage)}")
        print(failure.what)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run this case alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for files of failed cases")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    numbers = range(given.cases) if given.only is None else range(given.only, given.only + 1)
    with tempfile.TemporaryDirectory(prefix="tapeflow-corruption-") as folder:
        report = Campaign(given.seed, Path(folder), given.keep).run(numbers)
    if given.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        show(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
