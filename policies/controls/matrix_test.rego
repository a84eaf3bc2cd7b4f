package soar.tests.matrix

import data.soar.controls.matrix
import data.soar.fixtures

levels(question) := {ask.level |
	some ask in matrix.approval with input as question
		with data.matrix as data.soar.samples.matrix
		with data.assets as data.soar.samples.assets
}

denied(question) if {
	count(matrix.deny) > 0 with input as question
		with data.matrix as data.soar.samples.matrix
		with data.assets as data.soar.samples.assets
}

test_containment_by_severity if {
	every severity in ["informational", "low", "medium"] {
		levels(data.soar.fixtures.at(fixtures.contain, severity)) == {"approval"}
	}
	every severity in ["high", "critical"] {
		levels(data.soar.fixtures.at(fixtures.contain, severity)) == set()
		not denied(data.soar.fixtures.at(fixtures.contain, severity))
	}
}

test_destruction_by_severity if {
	denied(data.soar.fixtures.at(fixtures.destroy, "informational"))
	every severity in ["low", "medium", "high", "critical"] {
		levels(data.soar.fixtures.at(fixtures.destroy, severity)) == {"two_people"}
	}
}

test_containment_without_an_undo_counts_as_destruction if {
	levels(object.union(fixtures.contain, {"action": {"effect": "destructive"}})) == {"two_people"}
}

test_low_confidence_asks if {
	levels(object.union(fixtures.contain, {"alert": {"confidence": 39}})) == {"approval"}
	levels(object.union(fixtures.contain, {"alert": {"confidence": 40}})) == set()
	levels(object.union(fixtures.contain, {"alert": {"confidence": null}})) == set()
}

test_servers_ask if {
	every host in ["srv-files", "db-1", "web-03"] {
		levels(data.soar.fixtures.on(fixtures.contain, "host", host)) == {"approval"}
	}
	levels(data.soar.fixtures.on(fixtures.contain, "host", "ws-17")) == set()
}

test_the_asset_list_knows_tiers_better if {
	target := {"type": "host", "id": "x", "names": ["srv-1"], "addresses": [], "tags": []}
	server := object.union(target, {"names": ["x"], "tier": "server"})
	other := object.union(target, {"tier": "workstation"})
	levels(object.union(fixtures.contain, {"action": {"targets": [server]}})) == {"approval"}
	levels(object.union(fixtures.contain, {"action": {"targets": [other]}})) == set()
}

test_reads_are_free if {
	levels(data.soar.fixtures.at(fixtures.read, "informational")) == set()
	not denied(data.soar.fixtures.at(fixtures.read, "informational"))
}

test_the_message_names_the_row if {
	some ask in matrix.approval with input as data.soar.fixtures.at(fixtures.contain, "medium")
		with data.matrix as data.soar.samples.matrix
	ask.msg == "a contain action on an alert of severity medium: people must agree"
}
