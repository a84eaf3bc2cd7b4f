package soar.tests.blast_radius

import data.soar.controls.blast_radius
import data.soar.fixtures

isolate := data.soar.fixtures.on(fixtures.contain, "host", "ws-17")

codes(question, counters) := found if {
	asked := object.union(question, {"counters": counters})
	found := {reason.code | some reason in blast_radius.deny with input as asked with data.limits as data.soar.samples.limits}
}

test_nothing_was_done_yet if codes(isolate, {}) == set()

test_below_a_limit_is_fine if codes(isolate, {"target": {"host:ws-17": {"hour": 1, "day": 3}}}) == set()

test_each_window_of_a_target_holds if {
	codes(isolate, {"target": {"host:ws-17": {"hour": 2, "day": 2}}}) == {"blast_radius.target_hour"}
	codes(isolate, {"target": {"host:ws-17": {"hour": 0, "day": 4}}}) == {"blast_radius.target_day"}
}

test_another_target_is_another_count if {
	codes(isolate, {"target": {"host:ws-18": {"hour": 99, "day": 99}}}) == set()
}

test_connectors_and_playbooks_are_counted if {
	codes(isolate, {"connector": {"lab_edr": {"hour": 10, "day": 10}}}) == {"blast_radius.connector_hour"}
	codes(isolate, {"playbook": {"p1": {"hour": 0, "day": 20}}}) == {"blast_radius.playbook_day"}
}

test_a_playbook_may_have_limits_of_its_own if {
	careful := object.union(isolate, {"playbook": {"id": "careful"}})
	codes(careful, {"playbook": {"careful": {"hour": 1, "day": 1}}}) == {"blast_radius.playbook_hour"}
}

test_a_target_named_like_a_limit_gets_none if {
	careful := data.soar.fixtures.on(fixtures.contain, "host", "careful")
	codes(careful, {"target": {"host:careful": {"hour": 1, "day": 1}}}) == set()
}

test_percent_of_the_fleet_holds if {
	codes(isolate, {"fleet_percent": {"host": 5}}) == {"blast_radius.fleet"}
	codes(isolate, {"fleet_percent": {"host": 4.9}}) == set()
	codes(isolate, {"fleet_percent": {"user": 50}}) == set()
}

test_reads_and_undos_are_not_limited if {
	many := {"target": {"host:ws-17": {"hour": 99, "day": 99}}}
	codes(data.soar.fixtures.on(fixtures.read, "host", "ws-17"), many) == set()
	codes(object.union(isolate, {"run": {"kind": "undo"}}), many) == set()
}
