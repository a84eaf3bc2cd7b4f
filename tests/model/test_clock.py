"""One time for several machines, whatever becomes of their own clocks."""

from datetime import UTC, datetime, timedelta

import pytest

from soar.model.clock import SharedClock, UlidSource, earliest

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Machine:
    """A machine's clock, which somebody sets, and its counter, which nobody can."""

    def __init__(self, wrong: timedelta = timedelta()) -> None:
        self.wrong = wrong
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds) + self.wrong

    def steady(self) -> float:
        return self.seconds


def a_clock(machine: Machine) -> SharedClock:
    return SharedClock(machine, steady=machine.steady)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_wrong_at_the_start_is_set_right_by_a_look(days: int) -> None:
    machine = Machine(timedelta(days=days))
    clock = a_clock(machine)
    assert clock.heed(NOON) == timedelta(days=days)
    machine.seconds = 7
    assert clock.now() == NOON + timedelta(seconds=7)


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_a_machine_that_is_set_to_another_time_changes_nothing(hours: int) -> None:
    machine = Machine()
    clock = a_clock(machine)
    machine.wrong, machine.seconds = timedelta(hours=hours), 3
    assert clock.now() == NOON + timedelta(seconds=3)


def test_a_difference_that_the_way_of_the_answer_may_have_made_is_left_alone() -> None:
    machine = Machine()
    clock = a_clock(machine)
    assert clock.heed(NOON + timedelta(seconds=0.4)) == timedelta()
    assert clock.now() == NOON


def test_the_shared_clock_itself_may_jump_and_is_followed() -> None:
    machine = Machine()
    clock = a_clock(machine)
    clock.heed(NOON - timedelta(days=1))
    assert clock.now() == NOON - timedelta(days=1)


def test_names_that_two_machines_give_are_in_the_order_of_the_shared_time() -> None:
    """Else a run of the machine that goes ahead would wait for the lock behind all that others begin in that time."""
    machines = [Machine(timedelta(hours=1)), Machine(timedelta(hours=-1))]
    clocks = [a_clock(machine) for machine in machines]
    for clock in clocks:
        clock.heed(NOON)
    sources = [UlidSource(clock) for clock in clocks]
    names = [earliest("run", NOON)]
    for second in range(1, 7):
        for machine in machines:
            machine.seconds = second
        names.append(sources[second % 2].new("run"))
    names.append(earliest("run", NOON + timedelta(seconds=7)))
    assert names == sorted(names)
