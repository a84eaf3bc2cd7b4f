package soar.tests.lint

import data.soar.lint

places contains place if {
	some fault in lint.faults
	parts := [sprintf("%v", [part]) | some part in fault.path]
	place := concat(".", parts)
}

test_the_shipped_data_is_sound if count(lint.faults) == 0

test_assets if {
	protected := {
		"none": {"type": "host", "names": [], "prefixes": []},
		"caps": {"type": "host", "names": ["DC-1"], "prefixes": [], "tags": []},
		"glob": {"type": "host", "names": [], "prefixes": ["dc-*"], "tags": []},
		"text": {"type": "host", "names": "dc-1", "prefixes": [], "tags": []},
		"kind": {"type": "hosts", "names": [], "prefixes": [], "tags": []},
	}
	places == {
		"assets.protected.none",
		"assets.protected.caps.names",
		"assets.protected.glob.prefixes",
		"assets.protected.text.names",
		"assets.protected.kind.type",
	} with data.assets.protected as protected
	places == {"assets.protected"} with data.assets.protected as {}
}

test_networks if {
	places == {"networks.own.0", "networks.own.1"} with data.networks.own as ["10.0.0.0/33", 10]
	places == {"networks.special"} with data.networks.special as []
}

test_limits if {
	places == {"limits.target.hour", "limits.target.day"} with data.limits.target as {"hour": "30", "day": -1}
	places == {"limits.own.p.hours", "limits.own.p.day"} with data.limits.own as {"p": {"hours": 1, "day": 1.5}}
	places == {"limits.fleet_percent.host"} with data.limits.fleet_percent as {"host": 101}
	places == {"limits.depth"} with data.limits.depth as "5"
}

test_matrix if {
	places == {"matrix.contain.high"} with data.matrix.contain.high as "alow"
	places == {"matrix.tiers.server"} with data.matrix.tiers as {"server": "nobody"}
	low := {"below": "40", "level": "nobody"}
	places == {"matrix.low_confidence.level", "matrix.low_confidence.below"} with data.matrix.low_confidence as low
}

test_freezes if {
	backwards := {"name": "x", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
	local := {"name": "x", "from": "2026-01-01 00:00", "to": "2026-01-02T00:00:00Z"}
	places == {"freezes.windows.0", "freezes.windows.1"} with data.freezes.windows as [backwards, local]
	places == {"freezes.critical_containment"} with data.freezes.critical_containment as "maybe"
	places == {"freezes.outside_business_hours.contain"} with data.freezes.outside_business_hours.contain as 1
}

test_approvals if {
	levels := {"approval": {"soc-lead": 0}, "two_people": {"soc-lead": 1}}
	places == {"approvals.levels.approval", "approvals.levels.two_people"} with data.approvals.levels as levels
	places == {"approvals.ttl"} with data.approvals.ttl as "half an hour"
	places == {"approvals.reason_required"} with data.approvals.reason_required as ["three_people"]
	places == {"approvals.chat_methods"} with data.approvals.chat_methods as "slack"
}

test_allowlist if {
	places == {"allowlist.otherwise"} with data.allowlist.otherwise as ["tick*"]
	places == {"allowlist.playbooks.p1"} with data.allowlist.playbooks as {"p1": "*"}
}

test_fleet if {
	places == {"assets.fleet.host"} with data.assets.fleet as {"host": 0, "user": 5}
	places == set() with data.assets.fleet as {"host": 1200}
}

test_duties if {
	places == {"duties.rate.0"} with data.duties.rate as [{"on": ["*"], "key": "a", "limit": 0, "window": "1h"}]
	places == {"duties.expire.0"} with data.duties.expire as [{"on": ["*"], "after": "soon"}]
	places == {"duties.notify.0"} with data.duties.notify as [{"on": ["*"], "group": "a"}]
	places == {"duties.redact.0"} with data.duties.redact as [{"on": ["*"], "fields": []}]
	places == {"duties.notify.0.on"} with data.duties.notify as [{"on": ["tick*"], "group": "a", "msg": "b"}]
	places == {"duties.redact"} with data.duties.redact as "none"
}

test_people if {
	places == {"people.may.retyr", "people.may.halt"} with data.people.may as {"retyr": ["*"], "halt": "soc"}
	lists := {"p1": {"undoo": [], "undo": [1]}}
	places == {"people.playbooks.p1.undoo", "people.playbooks.p1.undo"} with data.people.playbooks as lists
}

test_halt if places == {"halt.active"} with data.halt.active as "no"
