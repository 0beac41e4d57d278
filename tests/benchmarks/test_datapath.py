import sys
from pathlib import Path

import pytest
import zstandard

from benchmarks.corpus import Shape, make_corpus
from benchmarks.datapath import Series, backup_limit, report, rows, thin
from benchmarks.limits import limits
from benchmarks.measure import Cost, RunFailed, run


def test_the_corpus_is_the_same_each_time_and_its_text_compresses_as_text_does(
    tmp_path: Path,
) -> None:
    made = make_corpus(tmp_path / "a", Shape(1, 20, 1_500_000))
    again = make_corpus(tmp_path / "b", Shape(1, 20, 1_500_000))
    contents = {
        path.relative_to(made.folder): path.read_bytes()
        for path in made.folder.rglob("*")
        if path.is_file()
    }
    assert (len(contents), sum(map(len, contents.values()))) == (made.files, made.size)
    assert all((again.folder / name).read_bytes() == data for name, data in contents.items())
    packed = zstandard.ZstdCompressor()
    for name, data in contents.items():
        ratio = len(data) / len(packed.compress(data))
        assert 1.3 < ratio < 5 if name.suffix == ".txt" else ratio < 1.01
    assert make_corpus(tmp_path / "a", Shape(1, 20, 1_500_000)) == made


def test_a_run_counts_all_its_processes_and_names_what_fails(tmp_path: Path) -> None:
    inner = "x = bytearray(300 << 20); sum(range(10**6))"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    cost = run([sys.executable, "-c", outer], tmp_path / "log", cwd=tmp_path)
    assert cost.peak > 300 << 20
    assert cost.cpu > 0
    with pytest.raises(RunFailed, match="ended with 1"):
        run([sys.executable, "-c", "1 / 0"], tmp_path / "log", cwd=tmp_path)


def test_medians_are_set_against_the_fastest_peer_and_the_limit(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, Shape(1, 1, 10))
    ours = Series("tapeflow", "all", [Cost(s, 1.0, 10**8) for s in (9.0, 2.0, 1.0)])
    peer = Series("peer", "less", [Cost(4.0, 1.0, 10**7)])
    slow = Series("slow", "less", [Cost(8.0, 1.0, 10**7)])
    limit = corpus.size / 1e6
    [first, second, third] = rows([ours, peer, slow], corpus, "backup", lambda _: limit)
    assert (first["to_fastest_peer"], second["to_fastest_peer"]) == pytest.approx((2, 1))
    assert (first["to_limit"], third["to_limit"]) == pytest.approx((0.5, 0.125))
    result = {
        "machine": {"cores": 2, "processor": "P"},
        "measured_at": "2026-11-20T10:00:00+00:00",
        "corpus": {"files": corpus.files, "bytes": corpus.size},
        "rounds": 3,
        "backup": [first, second],
        "restore": [first],
        "stages_alone": {"sha256": 1000.0},
    }
    assert "| tapeflow | 2 | 2.00 | 50% | 100 |" in report(result)


def test_only_who_keeps_parity_is_held_against_its_cost() -> None:
    stages = {"sha256": 9.0, "zstd -1": 9.0, "age encrypt": 8.0, "parity 4+2": 7.0}
    stages |= {"disk write": 6.0, "disk write and read back, 4+2": 5.0}
    limit = backup_limit(stages)
    assert (limit("tapeflow"), limit("tapeflow bare"), limit("borg")) == (5.0, 6.0, 6.0)


def test_every_necessary_stage_has_its_limit(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", Shape(2, 5, 6_000_000))
    folder = tmp_path / "limits"
    folder.mkdir()
    found = limits(folder, corpus.folder, size=8 << 20)
    assert len(found) == 8
    assert all(rate > 0 for rate in found.values())
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert (len(sizes), sum(sizes)) == (corpus.files, corpus.size)
    thin(folder)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 5
