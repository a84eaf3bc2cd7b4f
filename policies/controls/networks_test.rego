package soar.tests.networks

import data.soar.controls.networks
import data.soar.fixtures

block(id, addresses) := object.union(fixtures.contain, {"action": {"verb": "block", "targets": [target]}}) if {
	target := {"type": "ip", "id": id, "names": [id], "addresses": addresses, "tags": [], "tier": null}
}

test_a_public_address_may_be_blocked if {
	every address in ["45.155.205.233", "2a06:1700::1"] {
		count(networks.deny) == 0 with input as block(address, [address]) with data.networks as data.soar.samples.networks
	}
}

test_special_ranges_are_never_blocked if {
	every address in ["10.1.2.3", "172.31.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1"] {
		some reason in networks.deny with input as block(address, [address]) with data.networks as data.soar.samples.networks
		reason.code == "networks.never_block"
	}
}

test_an_inner_address_counts if {
	count(networks.deny) == 1 with input as block("::ffff:10.0.0.1", ["::ffff:a00:1", "10.0.0.1"]) with data.networks as data.soar.samples.networks
}

test_own_ranges_are_never_blocked if {
	count(networks.deny) == 1 with input as block("203.0.113.7", ["203.0.113.7"])
		with data.networks as {"special": [], "own": ["203.0.113.0/24"]}
}

test_what_is_no_address_is_not_blocked if {
	every id in ["0.0.0.0/0", "evil.example", ""] {
		some reason in networks.deny with input as block(id, []) with data.networks as data.soar.samples.networks
		reason.code == "networks.no_address"
	}
}

test_a_host_known_by_its_address_may_be_isolated if {
	target := {"type": "host", "id": "10.1.2.3", "names": ["10.1.2.3"], "addresses": ["10.1.2.3"], "tags": [], "tier": null}
	count(networks.deny) == 0 with input as object.union(fixtures.contain, {"action": {"targets": [target]}}) with data.networks as data.soar.samples.networks
}

test_looking_up_a_private_address_is_fine if {
	looked := object.union(block("10.0.0.1", ["10.0.0.1"]), {"action": {"effect": "read", "risk": "none"}})
	count(networks.deny) == 0 with input as looked with data.networks as data.soar.samples.networks
}
