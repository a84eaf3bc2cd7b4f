package soar.tests.separation

import data.soar.controls.separation
import data.soar.fixtures

granted(question, approver, method) := object.union(question, {"phase": "execute", "approvals": [vote]}) if {
	vote := {"approver": approver, "groups": ["soc-lead"], "method": method, "at": "", "digest": "", "decision": "grant"}
}

codes(question) := {reason.code |
	some reason in separation.deny with input as question with data.approvals as data.soar.samples.approvals
}

asked(question) := {ask.level |
	some ask in separation.approval with input as question with data.approvals as data.soar.samples.approvals
}

test_destruction_always_asks_two_people if {
	asked(fixtures.destroy) == {"two_people"}
	asked(fixtures.contain) == set()
	asked(fixtures.read) == set()
}

test_a_grant_by_somebody_else_is_fine if codes(granted(fixtures.destroy, "grace", "cli")) == set()

test_nobody_approves_what_they_asked_for if {
	question := object.union(granted(fixtures.contain, "grace", "cli"), {"actor": {"id": "grace", "type": "person"}})
	codes(question) == {"separation.self_approval"}
}

test_nobody_approves_their_own_playbook if {
	codes(granted(fixtures.contain, "ada", "cli")) == {"separation.author_approval"}
}

test_a_playbook_without_an_author_excludes_nobody if {
	question := object.union(granted(fixtures.contain, "ada", "cli"), {"playbook": {"author": null}})
	codes(question) == set()
}

test_a_denial_by_the_author_is_no_fault if {
	vote := {"approver": "ada", "groups": [], "method": "cli", "at": "", "digest": "", "decision": "deny"}
	codes(object.union(fixtures.contain, {"approvals": [vote]})) == set()
}

test_chat_approves_containment_but_not_destruction if {
	codes(granted(fixtures.contain, "grace", "slack")) == set()
	codes(granted(fixtures.destroy, "grace", "slack")) == {"separation.chat_approval"}
}
