"""What a playbook can make of a run has an end: how deep, how wide, how many."""

from soar.engine.interpreter import MAX_STEPS
from soar.engine.waits import MAX_DEPTH
from soar.model.run import RunState

from .house import House


async def test_calls_within_calls_end_at_the_depth_that_is_allowed(house: House) -> None:
    """A circle is refused when it is loaded; a chain that is too long only shows when it runs."""
    house.playbook("steps: [{call: deeper-1}]\n")
    for depth in range(1, MAX_DEPTH + 1):
        house.called(f"steps: [{{id: on, call: deeper-{depth + 1}}}]\n", f"deeper-{depth}")
    house.called("steps: [{stop: succeeded}]\n", f"deeper-{MAX_DEPTH + 1}")
    await house.start()
    run = await house.go()
    assert run.state is RunState.FAILED
    runs = await house.store.runs()
    assert sorted(each.depth for each in runs) == list(range(MAX_DEPTH + 1))
    assert (await house.step(await house.the_run(f"deeper-{MAX_DEPTH}"), "on")).error_code == "depth"


async def test_loops_within_loops_end_with_the_run_and_not_with_the_store(house: House) -> None:
    """Whatever catches failures, nothing catches this; what was done stays recorded."""
    inner = "{foreach: alert.raw.many, limit: 1000, on_error: continue, do: [{set: {x: 1}, on_error: continue}]}"
    house.playbook(f"steps:\n  - foreach: alert.raw.some\n    limit: 100\n    do: [{inner}]\n    on_error: continue\n")
    await house.start()
    run = await house.go(many=[1] * 700, some=[1] * 15)
    assert run.state is RunState.FAILED
    assert f"more than {MAX_STEPS} steps" in (run.error or "")
    assert len(await house.store.steps(run.id)) == MAX_STEPS
    assert (await house.verify()).ok


async def test_many_steps_within_the_limit_are_fine(house: House) -> None:
    house.playbook("steps:\n  - foreach: alert.raw.many\n    limit: 1000\n    do: [{set: {x: 1}}]\n")
    await house.start()
    assert (await house.go(many=[1] * 1000)).state is RunState.SUCCEEDED


async def test_lanes_of_a_loop_are_no_more_than_it_says(house: House) -> None:
    """Three wait at a time; a lane goes on with the next element when its own wait is over."""
    house.playbook("steps:\n  - foreach: alert.raw.many\n    concurrency: 3\n    do: [{wait: 10m}]\n")
    await house.start()
    run = await house.go(many=[1] * 7)
    began = [len(await house.store.steps(run.id))]
    for _ in range(2):
        await house.pass_time(601)
        began.append(len(await house.store.steps(run.id)))
    assert began == [3, 6, 7]
    await house.pass_time(601)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
