package soar.tests.protected

import data.soar.controls.protected
import data.soar.fixtures

test_a_workstation_may_be_isolated if {
	count(protected.deny) == 0 with input as data.soar.fixtures.on(fixtures.contain, "host", "ws-17") with data.assets as data.soar.samples.assets
}

test_protected_hosts_are_never_touched if {
	every host in ["dc-01", "dc12", "dc", "idp-2", "siem", "edr-console", "soar", "soar-db"] {
		count(protected.deny) == 1 with input as data.soar.fixtures.on(fixtures.contain, "host", host) with data.assets as data.soar.samples.assets
	}
}

test_protected_accounts_are_never_touched if {
	every user in ["breakglass-1", "ceo", "exec-jane", "svc-soar"] {
		count(protected.deny) == 1 with input as data.soar.fixtures.on(fixtures.contain, "user", user) with data.assets as data.soar.samples.assets
	}
}

test_a_host_list_says_nothing_about_accounts if {
	count(protected.deny) == 0 with input as data.soar.fixtures.on(fixtures.contain, "user", "dc-01") with data.assets as data.soar.samples.assets
}

test_a_tag_of_the_asset_list_protects if {
	target := {"type": "host", "id": "ws-9", "names": ["ws-9"], "addresses": [], "tags": ["tier0"], "tier": null}
	question := object.union(fixtures.contain, {"action": {"targets": [target]}})
	count(protected.deny) == 1 with input as question with data.assets as data.soar.samples.assets
}

test_looking_at_a_domain_controller_is_fine if {
	count(protected.deny) == 0 with input as data.soar.fixtures.on(fixtures.read, "host", "dc-01") with data.assets as data.soar.samples.assets
}

test_an_undo_gives_back_even_there if {
	question := object.union(fixtures.contain, {"run": {"kind": "undo"}})
	count(protected.deny) == 0 with input as data.soar.fixtures.on(question, "host", "dc-01") with data.assets as data.soar.samples.assets
}

test_an_undo_that_destroys_is_no_undo if {
	question := object.union(fixtures.destroy, {"run": {"kind": "undo"}})
	count(protected.deny) == 1 with input as data.soar.fixtures.on(question, "host", "dc-01") with data.assets as data.soar.samples.assets
}

test_the_message_names_what_and_where if {
	some reason in protected.deny with input as data.soar.fixtures.on(fixtures.contain, "host", "dc-01") with data.assets as data.soar.samples.assets
	reason == {
		"code": "protected.asset",
		"control": "protected",
		"msg": "host dc-01 is protected: domain controllers (data/assets.yaml)",
	}
}
