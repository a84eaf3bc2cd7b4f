"""What soar.yaml says of the time reaches policy."""

from datetime import timedelta

from .house import House


async def test_policy_is_told_of_business_hours_and_freezes(house: House) -> None:
    """A holiday, wherever it is today, and a freeze that will not end soon."""
    today = house.clock.now().date()
    holidays = ", ".join(str(today + timedelta(days=days)) for days in (-1, 0, 1, 2))
    calendar = f"""
calendar:
  timezone: Pacific/Kiritimati
  holidays: [{holidays}]
  freezes: [{{name: for long, from: 2020-01-01T00:00:00Z, to: 2120-01-01T00:00:00+02:00}}]
"""
    config = house.folder / "soar.yaml"
    config.write_text(config.read_text() + calendar)
    house.playbook("steps:\n  - {id: say, use: notify.send, with: {channel: soc, text: hi}}\n")
    await house.start()
    (decided,) = await house.told(await house.go(), "policy.decided")
    time = decided["body"]["input"]["time"]
    assert (time["business_hours"], time["freeze"]) == (False, ["for long"])
