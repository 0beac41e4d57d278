from hypothesis import given
from hypothesis import strategies as st

from restore_lib.restore.work import HERE, Coming, Job, Work

PLACES = ("", "hill", "lake")


@st.composite
def works(draw: st.DrawFn) -> Work:
    names = [f"V{number}" for number in range(draw(st.integers(1, 40)))]
    places = {name: draw(st.sampled_from(PLACES)) for name in names}
    some = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    jobs = draw(
        st.lists(
            st.builds(
                lambda held, objects, size: Job(tuple(held), objects, size),
                some,
                st.integers(1, 100),
                st.integers(0, 10**12),
            ),
            max_size=60,
        )
    )
    coming = [Coming("hill", (names[0],), 5.0)]
    return Work(jobs, places, coming=coming)


@given(works(), st.integers(1, 30))
def test_condensed_work_has_all_that_the_whole_has(work: Work, limit: int) -> None:
    small = work.condensed(limit)
    assert sum(job.count for job in small.jobs) == len(work.jobs)
    for name in ("objects", "size"):
        assert sum(getattr(job, name) for job in small.jobs) == sum(
            getattr(job, name) for job in work.jobs
        )
    assert {b for job in small.jobs for b in job.volumes} <= {
        b for job in work.jobs for b in job.volumes
    }
    for place in PLACES:
        assert cartridges(small, place) == cartridges(work, place)


def cartridges(work: Work, place: str) -> int:
    wanted = {b for job in work.jobs for b in job.volumes if work.places.get(b, HERE) == place}
    return sum(work.weights.get(barcode, 1) for barcode in wanted)


def test_jobs_of_one_kind_are_put_together_and_others_are_not() -> None:
    alone = [Job((f"V{number}",), 1, 100) for number in range(100)]
    together = [Job(("A", "B"), 1, 100), Job(("C",), 1, 100), Job(("C",), 1, 100)]
    small = Work([*alone, *together], dict.fromkeys("ABC", "hill")).condensed(11)
    assert [job for job in small.jobs if job.count == 1] == together
    assert {job.count for job in small.jobs} == {1, 10}
    assert len(small.jobs) == 13


def test_little_work_stays_as_it_is() -> None:
    work = Work([Job(("A",), 1, 1)] * 5)
    assert work.condensed(5) is work
