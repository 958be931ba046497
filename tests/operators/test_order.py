"""Which message comes behind which, also where a device begins anew with an earlier clock."""

from __future__ import annotations

from operators.order import Order
from pipeline.messages import Span


def span(sensor: str, epoch: int) -> Span:
    """Where a message came from."""
    return Span(sensor, epoch, 0, 10)


def test_event_time_decides_within_a_stream_and_the_stream_beyond() -> None:
    """A later stream comes behind an earlier one whatever its clock says; an earlier one never comes behind."""
    order = Order()
    assert order.behind(-5, []) and not order.restarts(-5)
    order.take(100, [span("a", 3)])
    assert order.behind(101, [span("a", 3)]) and not order.behind(100, [span("a", 3)])
    assert order.behind(50, [span("a", 4)]) and order.restarts(50)
    assert not order.behind(200, [span("a", 2)])
    assert order.behind(101, [span("b", 0)]) and not order.behind(99, [span("b", 0)])
    assert order.behind(101, []) and not order.behind(99, [])


def test_a_sensor_that_was_given_up_has_no_stream_of_its_own() -> None:
    """Its marks come behind by their time, and its next stream behind the one before them."""
    order = Order()
    order.take(100, [span("a", 3)])
    assert order.behind(101, [span("a", -1)]) and not order.behind(99, [span("a", -1)])
    order.take(101, [span("a", -1)])
    assert not order.behind(200, [span("a", 2)]) and order.behind(50, [span("a", 4)])


def test_a_joins_sensors_each_count() -> None:
    """One that begins anew is enough; one that is older spoils it."""
    order = Order()
    order.take(100, [span("a", 1), span("b", 1)])
    assert order.behind(50, [span("a", 2), span("b", 1)])
    assert not order.behind(150, [span("a", 0), span("b", 1)])
    assert not order.behind(150, [span("a", 0), span("b", 2)])
    order.take(50, [span("a", 2)])  # the other one has ended
    assert order.behind(60, [span("a", 2), span("b", 1)])


def test_it_is_restored_also_from_an_event_time_alone() -> None:
    """As earlier versions kept it."""
    order, again, old = Order(), Order(), Order()
    order.take(100, [span("a", 1)])
    again.restore(order.t_ns, order.epochs)
    assert again.behind(50, [span("a", 2)]) and not again.behind(100, [span("a", 1)])
    old.restore(100, {})
    assert not old.behind(100, [span("a", 1)]) and old.behind(101, [span("a", 1)])
