"""What the agent gives out, and never twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock_agent.resources.stock import Share, Stock


def devices(share: Share | None) -> tuple[str, ...]:
    assert share is not None
    return share.devices


def test_what_is_taken_is_free_again_at_the_end() -> None:
    stock = Stock({"cpu": 2.0})
    assert stock.ask(1, {"cpu": 1.5}) is not None
    assert stock.ask(2, {"cpu": 1.0}) is None
    assert [handle for handle, _ in stock.release(1)] == [2]
    assert stock.release(1) == []
    assert stock.release(2) == []


def test_who_comes_later_waits_behind_who_waits() -> None:
    stock = Stock({"cpu": 2.0})
    stock.ask(1, {"cpu": 1.0})
    assert stock.ask(2, {"cpu": 2.0}) is None
    assert stock.ask(3, {"cpu": 1.0}) is None, "it would fit, but the large one would wait for ever"
    assert [handle for handle, _ in stock.release(1)] == [2]
    assert [handle for handle, _ in stock.release(2)] == [3]


def test_who_leaves_the_queue_lets_others_in() -> None:
    stock = Stock({"cpu": 2.0})
    stock.ask(1, {"cpu": 1.0})
    stock.ask(2, {"cpu": 2.0})
    stock.ask(3, {"cpu": 1.0})
    assert [handle for handle, _ in stock.withdraw(2)] == [3]
    assert stock.withdraw(2) == []
    assert stock.waiting == []


def test_thirds_add_up() -> None:
    stock = Stock({"cpu": 1.0})
    assert all(stock.ask(handle, {"cpu": 1 / 3}) is not None for handle in range(3))
    assert stock.ask(9, {"cpu": 1 / 3}) is None


def test_each_attempt_has_its_own_devices() -> None:
    stock = Stock({"gpu": 3.0}, ("0", "1", "5"))
    assert devices(stock.ask(1, {"gpu": 1.0})) == ("0",)
    assert devices(stock.ask(2, {"gpu": 2.0})) == ("1", "5")
    assert stock.ask(3, {"gpu": 1.0}) is None
    ((_, share),) = stock.release(1)
    assert share.devices == ("0",)


def test_parts_of_a_device_are_put_together() -> None:
    stock = Stock({"gpu": 2.0}, ("0", "1"))
    assert devices(stock.ask(1, {"gpu": 0.5})) == ("0",)
    assert devices(stock.ask(2, {"gpu": 0.25})) == ("0",)
    assert devices(stock.ask(3, {"gpu": 1.0})) == ("1",)
    assert devices(stock.ask(4, {"gpu": 0.25})) == ("0",)
    assert stock.ask(5, {"gpu": 0.25}) is None


def test_a_whole_device_is_one_that_nobody_has_a_part_of() -> None:
    stock = Stock({"gpu": 2.0}, ("0", "1"))
    stock.ask(1, {"gpu": 0.75})
    assert devices(stock.ask(2, {"gpu": 0.75})) == ("1",)
    stock.release(1)
    assert devices(stock.ask(3, {"gpu": 1.0})) == ("0",)


def test_what_there_is_never_enough_of_is_told() -> None:
    stock = Stock({"cpu": 2.0, "gpu": 1.0}, ("0",))
    assert stock.missing({"cpu": 2.0, "gpu": 2.0, "licence": 1.0}) == [("gpu", 2.0, 1.0), ("licence", 1.0, 0.0)]


Steps = st.lists(
    st.tuples(
        st.sampled_from(("ask", "release", "withdraw")),
        st.integers(0, 7),
        st.sampled_from((0.0, 0.25, 0.5, 1.0, 1.5, 2.0)),
        st.sampled_from((0.0, 1.0, 2.0)),
    ),
    max_size=60,
)


@given(Steps)
def test_nothing_is_ever_given_twice_and_all_of_it_comes_back(steps: list[tuple[str, int, float, float]]) -> None:
    stock = Stock({"gpu": 2.0, "cpu": 3.0}, ("0", "1"))
    held: dict[int, Share] = {}
    for what, handle, gpu, cpu in steps:
        if what == "ask" and handle not in held and handle not in stock.waiting:
            share = stock.ask(handle, {"gpu": gpu, "cpu": cpu})
            if share is not None:
                held[handle] = share
        elif what == "release":
            held.pop(handle, None)
            held.update(stock.release(handle))
        elif what == "withdraw":
            held.update(stock.withdraw(handle))
        for name, most in (("gpu", 2.0), ("cpu", 3.0)):
            assert sum(share.wants.get(name, 0.0) for share in held.values()) <= most + 1e-6
        for device in ("0", "1"):
            assert sum(part for share in held.values() for d, part in share.parts if d == device) <= 1 + 1e-6
    for handle in [*held, *stock.waiting]:
        stock.release(handle)
        stock.withdraw(handle)
    whole = stock.ask(99, {"gpu": 2.0, "cpu": 3.0})
    assert whole is not None or stock.waiting != [99]
