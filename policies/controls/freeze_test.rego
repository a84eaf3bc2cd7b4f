package soar.tests.freeze

import data.soar.controls.freeze
import data.soar.fixtures

window := {"name": "year end", "from": "2026-01-05T12:00:00Z", "to": "2026-01-05T18:00:00Z"}

calendar := object.union(data.soar.samples.freezes, {"windows": [window]})

denied(question) if count(freeze.deny) > 0 with input as question with data.freezes as calendar

asked(question) := {ask.level |
	some ask in freeze.approval with input as question with data.freezes as calendar
}

moment(question, now) := object.union(question, {"time": {"now_rfc3339": now}})

test_a_window_holds_from_its_first_second_to_before_its_last if {
	not denied(moment(fixtures.contain, "2026-01-05T11:59:59Z"))
	denied(moment(fixtures.contain, "2026-01-05T12:00:00Z"))
	denied(moment(fixtures.contain, "2026-01-05T17:59:59Z"))
	not denied(moment(fixtures.contain, "2026-01-05T18:00:00Z"))
}

test_a_freeze_from_the_calendar_holds if {
	denied(object.union(fixtures.contain, {"time": {"now_rfc3339": "2026-06-01T00:00:00Z", "freeze": ["release"]}}))
}

test_critical_containment_goes_on_with_approval if {
	critical := data.soar.fixtures.at(fixtures.contain, "critical")
	not denied(critical)
	asked(critical) == {"approval"}
}

test_critical_destruction_does_not if denied(data.soar.fixtures.at(fixtures.destroy, "critical"))

test_reads_and_undos_go_on if {
	not denied(fixtures.read)
	not denied(object.union(fixtures.contain, {"run": {"kind": "undo"}}))
}

night(question) := object.union(question, {"time": {"now_rfc3339": "2026-01-05T23:00:00Z", "business_hours": false}})

test_at_night_destruction_asks_and_containment_does_not if {
	asked(night(fixtures.destroy)) == {"two_people"}
	asked(night(fixtures.contain)) == set()
	not denied(night(fixtures.contain))
}

test_business_hours_can_be_made_strict if {
	strict := {"windows": [], "critical_containment": "approval", "outside_business_hours": {"contain": "deny", "destructive": "deny"}}
	count(freeze.deny) == 1 with input as night(fixtures.contain) with data.freezes as strict
	critical := data.soar.fixtures.at(night(fixtures.contain), "critical")
	count(freeze.deny) == 0 with input as critical with data.freezes as strict
}
