package soar.tests.allowlist

import data.soar.controls.allowlist
import data.soar.fixtures

allowed(question, grants) if {
	count(allowlist.deny) == 0 with input as question with data.allowlist as {"playbooks": {"p1": grants}, "otherwise": []}
}

test_every_spelling_of_a_grant_works if {
	every grant in ["*", "host.isolate", "host.*", "lab_edr.isolate", "lab_edr.*"] {
		allowed(fixtures.contain, [grant])
	}
}

test_what_is_not_granted_is_denied if {
	every grant in ["host", "host.release", "hos*", "lab_idp.*"] {
		not allowed(fixtures.contain, [grant])
	}
}

test_other_playbooks_get_the_otherwise if {
	lists := {"playbooks": {"p2": ["*"]}, "otherwise": ["ticket.*"]}
	some reason in allowlist.deny with input as fixtures.contain with data.allowlist as lists
	reason.msg == "playbook p1 may not use lab_edr.isolate (data/allowlist.yaml)"
}

test_an_action_without_a_capability_goes_by_its_name if {
	plain := object.union(fixtures.contain, {"action": {"capability": null}})
	allowed(plain, ["lab_edr.isolate"])
	not allowed(plain, ["host.isolate"])
}

test_reads_and_undos_need_no_grant if {
	allowed(fixtures.read, [])
	allowed(object.union(fixtures.contain, {"run": {"kind": "undo"}}), [])
}

test_a_group_is_told_whatever_the_playbook_may_use if {
	told := object.union(fixtures.contain, {
		"run": {"kind": "notice"},
		"action": {"capability": "notify.send", "risk": "none", "verb": "notify"},
	})
	nothing := {"playbooks": {}, "otherwise": []}
	count(allowlist.deny) == 0 with input as told with data.allowlist as nothing
	count(allowlist.deny) == 1 with input as object.union(told, {"run": {"kind": "alert"}}) with data.allowlist as nothing
}
