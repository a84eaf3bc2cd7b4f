package soar.tests.people

import data.soar.people

ada := {
	"schema": "soar.person/v1",
	"person": {"name": "ada", "groups": ["soc"], "channel": "cli"},
	"deed": "retry",
	"subject": {"kind": "run", "id": "r1", "playbook": "p1", "action": null, "impact": null},
	"time": {
		"now_rfc3339": "2026-01-05T12:00:00Z",
		"unix": 1767614400,
		"weekday": "monday",
		"business_hours": true,
		"freeze": [],
	},
	"environment": {"name": "test", "tenant": "default"},
}

may(question, lists) if {
	people.decision.allow with input as question with data.people as {"may": lists, "playbooks": {}}
}

test_as_shipped_everybody_may_do_everything if {
	every deed, _ in data.people.may {
		people.decision.allow with input as object.union(ada, {"deed": deed})
	}
}

test_a_name_or_a_group_is_enough if {
	may(ada, {"retry": ["ada"]})
	may(ada, {"retry": ["lead", "soc"]})
	not may(ada, {"retry": ["lead"]})
	not may(ada, {"retry": []})
}

test_what_has_no_list_nobody_may if {
	not may(ada, {"halt": ["*"]})
}

test_a_playbook_may_have_lists_of_its_own if {
	lists := {"may": {"retry": ["*"]}, "playbooks": {"p1": {"retry": ["lead"]}}}
	decision := people.decision with input as ada with data.people as lists
	not decision.allow
	decision.reasons[0].code == "people.not_listed"
	decision.reasons[0].msg == "ada is not among those who may retry runs of p1 (data/people.yaml)"
	other := object.union(ada, {"subject": {"playbook": "p2"}})
	people.decision.allow with input as other with data.people as lists
}

test_without_a_playbook_the_general_list_counts if {
	lists := {"may": {"halt": ["soc"]}, "playbooks": {"p1": {"halt": ["lead"]}}}
	people.decision.allow with input as object.union(ada, {"deed": "halt", "subject": {"kind": "service", "playbook": null}})
		with data.people as lists
}
