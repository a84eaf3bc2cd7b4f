package soar.tests.main

import data.soar.fixtures
import data.soar.main

decide(question) := decided(question, data.soar.samples.approvals)

decided(question, people) := decision if {
	decision := main.decision with input as question
		with data.approvals as people
		with data.assets as data.soar.samples.assets
		with data.matrix as data.soar.samples.matrix
		with data.limits as data.soar.samples.limits
		with data.networks as data.soar.samples.networks
		with data.freezes as data.soar.samples.freezes
		with data.halt as data.soar.samples.halt
		with data.allowlist as data.soar.samples.allowlist
}

test_a_read_is_allowed_and_every_control_took_part if {
	decision := decide(fixtures.read)
	decision.effect == "allow"
	decision.reasons == []
	decision.obligations == []
	every control in data.controls.mandatory {
		control in decision.controls_evaluated
	}
}

test_an_approval_names_its_groups if {
	decision := decide(data.soar.fixtures.at(fixtures.contain, "medium"))
	decision.effect == "require_approval"
	decision.obligations == [{
		"type": "approval",
		"groups": [{"group": "soc-lead", "min": 1}],
		"distinct": true,
		"exclude": ["playbook_author", "requester"],
		"ttl": "30m",
		"execution_ttl": "15m",
		"reason_required": false,
	}]
}

test_asks_of_several_controls_become_one_quorum if {
	decision := decide(fixtures.destroy)
	[obligation] := decision.obligations
	obligation.groups == [{"group": "ir-manager", "min": 1}, {"group": "soc-lead", "min": 1}]
	obligation.reason_required
	{reason.control | some reason in decision.reasons} == {"matrix", "separation"}
}

test_the_largest_number_of_a_group_wins if {
	levels := {"approval": {"soc-lead": 3}, "two_people": {"soc-lead": 1, "ir-manager": 1}}
	question := object.union(fixtures.destroy, {"alert": {"confidence": 0}})
	decision := decided(question, object.union(data.soar.samples.approvals, {"levels": levels}))
	decision.obligations[0].groups == [{"group": "ir-manager", "min": 1}, {"group": "soc-lead", "min": 3}]
}

test_deny_beats_approval if {
	question := data.soar.fixtures.on(data.soar.fixtures.at(fixtures.contain, "medium"), "host", "dc-01")
	decision := decide(question)
	decision.effect == "deny"
	decision.obligations == []
	{reason.control | some reason in decision.reasons} == {"protected"}
}
