"""What the index of artifacts promises, on PostgreSQL and in memory."""

from __future__ import annotations

import msgspec
from tests.contract.records import new_run, new_run_id, record, start

from penstock_coordinator.ports import (
    OF_RUN,
    ArtifactFilter,
    ArtifactRow,
    Committed,
    OldArtifacts,
    Origin,
    Parent,
    RunChange,
    RunId,
    RunRows,
    Stores,
    Unstorable,
    UseRow,
    WorkRow,
)

COMMITTED = Committed()
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
WORK = WorkRow(0, -1, 1, 1, 7, "etl", "v" * 64, "load", "load", "c" * 64)
LIVE, AT_REST = 2, 6


def made(seq: int, digest: str = ONE, position: int = 0, **given: object) -> ArtifactRow:
    work = msgspec.structs.replace(WORK, **{k: given.pop(k) for k in list(given) if k in WorkRow.__struct_fields__})
    row = ArtifactRow(
        seq, position, 1_000 + seq, work, "odd \0 \ud800", digest, 5, "text/csv", "file", "", b'{"rows":1}'
    )
    return msgspec.structs.replace(row, **given)


def used(digest: str, name: str = "data", **given: object) -> UseRow:
    return UseRow(5_000, msgspec.structs.replace(WORK, **given), name, digest)


async def begun(
    stores: Stores, *uses: UseRow, state: int = LIVE, pipeline: str = "etl", parent: RunId | None = None
) -> RunId:
    run_id = new_run_id()
    origin = Origin() if parent is None else Origin(parent=Parent(parent, 0, -1))
    new = msgspec.structs.replace(new_run(pipeline, state=state), uses=uses, origin=origin, end_time=9)
    assert await stores.journal.commit(0, [start(run_id, new=new)]) == [COMMITTED]
    return run_id


async def commit(stores: Stores, run_id: RunId, *rows: ArtifactRow) -> None:
    brought = msgspec.structs.replace(record(run_id, rows[0].seq), artifacts=rows)
    assert await stores.journal.commit(0, [brought]) == [COMMITTED]


async def end(stores: Stores, run_id: RunId, seq: int) -> None:
    ended = msgspec.structs.replace(record(run_id, seq), change=RunChange(AT_REST, end_time=9_000))
    assert await stores.journal.commit(0, [ended]) == [COMMITTED]


async def listed(stores: Stores, **where: object) -> list[tuple[RunId, int, int]]:
    found = await stores.artifacts.list_artifacts(ArtifactFilter(**where), 100)  # type: ignore[arg-type]  # by name
    return [(each.run_id, each.row.seq, each.row.position) for each in found]


async def test_an_artifact_comes_with_its_record(stores: Stores) -> None:
    run_id = await begun(stores)
    row = made(3)
    await commit(stores, run_id, row)
    found = await stores.artifacts.get(run_id, 3, 0)
    assert found is not None
    assert (found.run_id, found.row, found.version_number) == (run_id, row, 0)
    assert await stores.artifacts.get(run_id, 3, 1) is None
    assert await stores.artifacts.list_artifacts(ArtifactFilter(), 10) == [found]


async def test_of_a_record_that_is_refused_there_is_none(stores: Stores) -> None:
    run_id = await begun(stores)
    refused = msgspec.structs.replace(record(run_id, 3), artifacts=(made(3, step_name="\0"),))
    assert isinstance((await stores.journal.commit(0, [refused]))[0], Unstorable)
    assert await listed(stores) == []


async def test_lists_are_filtered_and_paged_with_the_newest_first(stores: Stores) -> None:
    one, other = await begun(stores), await begun(stores)
    await commit(stores, one, made(3), made(3, TWO, 1, name="model", step_name="train"))
    await commit(stores, other, made(4, TWO, pipeline="ml"))
    assert await listed(stores) == [(other, 4, 0), (one, 3, 1), (one, 3, 0)]
    assert await listed(stores, run_id=one) == [(one, 3, 1), (one, 3, 0)]
    assert await listed(stores, digest=TWO) == [(other, 4, 0), (one, 3, 1)]
    assert await listed(stores, digest=TWO, pipeline="etl", step="train", name="model") == [(one, 3, 1)]
    assert await listed(stores, name="absent") == []
    assert await listed(stores, pipeline="\0") == []
    first = await stores.artifacts.list_artifacts(ArtifactFilter(), 2)
    rest = await stores.artifacts.list_artifacts(ArtifactFilter(), 2, first[-1].place)
    assert [each.row.seq for each in (*first, *rest)] == [4, 3, 3]


async def test_makers_and_what_an_attempt_made(stores: Stores) -> None:
    run_id = await begun(stores)
    await commit(stores, run_id, made(3, token=7), made(3, TWO, 1, token=7))
    await commit(stores, run_id, made(5, token=8))
    assert [each.row.seq for each in await stores.artifacts.makers_of([ONE], 10)] == [5, 3]
    assert [each.row.seq for each in await stores.artifacts.makers_of([ONE, TWO], 1)] == [5]
    assert [each.row.digest for each in await stores.artifacts.made_by(run_id, 0, -1, 7)] == [ONE, TWO]
    assert await stores.artifacts.made_by(run_id, 1, -1, 7) == []


async def test_uses_are_kept_once(stores: Stores) -> None:
    run_id = await begun(stores)
    uses = [(run_id, used(TWO, "b")), (run_id, used(ONE, "a")), (run_id, used(ONE, "a", token=9))]
    for _ in range(2):
        await stores.artifacts.add_uses(uses)
    await stores.artifacts.add_uses([])
    found = await stores.artifacts.uses_of(run_id, 0, -1, 7)
    assert [(each.row.input, each.row.digest) for each in found] == [("a", ONE), ("b", TWO)]
    assert found[0].row == uses[1][1]
    assert len(await stores.artifacts.users_of([ONE, TWO], 10)) == 3
    assert len(await stores.artifacts.users_of([ONE], 1)) == 1


async def test_what_a_run_was_given_and_made(stores: Stores) -> None:
    run_id = await begun(stores, used(ONE, "path", step=OF_RUN, token=0))
    other = await begun(stores)
    await commit(stores, run_id, made(3, TWO))
    await stores.artifacts.add_uses([(other, used(THREE))])
    assert await stores.artifacts.of_run(run_id, [ONE, TWO, THREE]) == {ONE, TWO}
    assert await stores.artifacts.of_run(other, [ONE, TWO, THREE]) == {THREE}
    assert await stores.artifacts.known([ONE, TWO, THREE]) == {TWO}
    assert await stores.artifacts.users_of([ONE], 10) == []  # a run is no step


async def test_what_live_runs_were_given_is_needed(stores: Stores) -> None:
    live, ended = await begun(stores), await begun(stores, state=AT_REST)
    below = await begun(stores, state=AT_REST, parent=live)
    await stores.artifacts.add_uses([(live, used(ONE)), (ended, used(TWO)), (below, used(THREE))])
    assert await stores.artifacts.needed([ONE, TWO, THREE]) == {ONE, THREE}
    await commit(stores, ended, made(3, TWO))
    assert await stores.artifacts.needed([TWO]) == {TWO}


async def test_old_artifacts_of_runs_at_rest(stores: Stores) -> None:
    live, ended = await begun(stores), await begun(stores)
    await commit(stores, live, made(3))
    await commit(stores, ended, made(4, TWO), made(4, THREE, 1, pipeline="ml"))
    await end(stores, ended, 5)
    every = OldArtifacts(made_before=2_000)
    assert await stores.artifacts.old(every, 10) == [(ended, 4, 0), (ended, 4, 1)]
    assert await stores.artifacts.old(every, 1) == [(ended, 4, 0)]
    assert await stores.artifacts.old(OldArtifacts(made_before=1_004), 10) == []
    assert await stores.artifacts.old(OldArtifacts(2_000, pipeline="ml"), 10) == [(ended, 4, 1)]
    assert await stores.artifacts.old(OldArtifacts(2_000, other_than=("ml",)), 10) == [(ended, 4, 0)]
    await stores.artifacts.add_uses([(live, used(TWO))])
    assert await stores.artifacts.old(every, 10) == [(ended, 4, 1)]
    assert await stores.artifacts.remove([(ended, 4, 1), (ended, 4, 9)]) == 1
    assert await stores.artifacts.old(every, 10) == []


async def test_those_beyond_the_newest_of_their_series(stores: Stores) -> None:
    run_id = await begun(stores)
    await commit(stores, run_id, made(3), made(3, TWO, 1, name="other"))
    await commit(stores, run_id, made(4))
    await commit(stores, run_id, made(5))
    await end(stores, run_id, 6)
    assert await stores.artifacts.old(OldArtifacts(beyond=2), 10) == [(run_id, 3, 0)]
    assert await stores.artifacts.old(OldArtifacts(beyond=1), 10) == [(run_id, 3, 0), (run_id, 4, 0)]
    assert await stores.artifacts.old(OldArtifacts(beyond=3), 10) == []


async def test_rows_go_with_their_run(stores: Stores) -> None:
    run_id = await begun(stores, used(ONE, step=OF_RUN))
    await commit(stores, run_id, made(3), made(3, TWO, 1))
    for rows, count in ((RunRows.ARTIFACTS, 2), (RunRows.USES, 1)):
        assert await stores.retention.count_rows(rows, [run_id]) == count
        assert await stores.retention.remove_rows(rows, [run_id], 10) == 0  # it is live
    await end(stores, run_id, 6)
    for rows, count in ((RunRows.ARTIFACTS, 2), (RunRows.USES, 1)):
        assert await stores.retention.remove_rows(rows, [run_id], 10) == count
    assert await listed(stores) == []
