package soar.tests.duties

import data.soar.controls.duties
import data.soar.fixtures
import data.soar.main

isolate := data.soar.fixtures.on(fixtures.contain, "host", "ws-17")

rate := {"on": ["host.*"], "key": "edr", "limit": 3, "window": "1h"}

expire := {"on": ["lab_edr.isolate"], "after": "4h"}

tell := {"on": ["*"], "group": "soc-lead", "msg": "look"}

redact := {"on": ["lab_edr.*"], "fields": ["reason"]}

all_duties := {"rate": [rate], "expire": [expire], "notify": [tell], "redact": [redact]}

types(question) := found if {
	found := {duty.type | some duty in duties.duty with input as question with data.duties as all_duties}
}

decided(asked) := decision if {
	decision := main.decision with input as asked
		with data.duties as all_duties
		with data.approvals as data.soar.samples.approvals
		with data.assets as data.soar.samples.assets
		with data.matrix as data.soar.samples.matrix
		with data.limits as data.soar.samples.limits
		with data.networks as data.soar.samples.networks
		with data.freezes as data.soar.samples.freezes
		with data.halt as data.soar.samples.halt
		with data.allowlist as data.soar.samples.allowlist
}

test_an_action_has_the_duties_that_speak_of_it if {
	types(isolate) == {"rate", "expire", "notify", "redact"}
	types(fixtures.destroy) == {"notify", "redact"}
}

test_what_is_given_back_does_not_expire if {
	"rate" in types(object.union(isolate, {"run": {"kind": "undo"}}))
	not "expire" in types(object.union(isolate, {"run": {"kind": "undo"}}))
}

test_duties_follow_the_approval if {
	asked := data.soar.fixtures.at(isolate, "low")
	decision := decided(asked)
	[first, second, third, fourth, fifth] := decision.obligations
	first.type == "approval"
	{second.type, third.type, fourth.type, fifth.type} == {"expire", "notify", "rate", "redact"}
}

test_of_a_denial_groups_are_told_and_no_more if {
	asked := data.soar.fixtures.on(fixtures.contain, "host", "dc-01")
	decision := decided(asked)
	decision.effect == "deny"
	decision.obligations == [{"type": "notify", "group": "soc-lead", "msg": "look"}]
}

test_without_data_the_control_took_no_part if {
	not "duties" in duties.evaluated with data.duties as {}
	"duties" in duties.evaluated
}
