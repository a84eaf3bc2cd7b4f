# The plain questions that tests start from.
package soar.fixtures

read := question({})

contain := question({"action": {"capability": "host.isolate", "effect": "reversible", "risk": "contain", "verb": "isolate"}})

destroy := question({"action": {"capability": "email.delete", "effect": "destructive", "risk": "destructive", "verb": "delete"}})

question(changes) := object.union(plain, changes)

# An action on one target, spelt as the engine spells it.
on(question, type, id) := object.union(question, {"action": {"targets": [target]}}) if {
	target := {"type": type, "id": id, "names": [id], "addresses": [], "tags": [], "tier": null, "owner": null}
}

at(question, severity) := object.union(question, {"alert": {"severity": severity}})

plain := {
	"schema": "soar.input/v1",
	"phase": "plan",
	"mode": "enforce",
	"action": {
		"id": "0",
		"connector": "lab_edr",
		"connector_version": "1",
		"verb": "status",
		"capability": "host.status",
		"effect": "read",
		"risk": "none",
		"reversible_by": null,
		"params": {},
		"digest": "00",
		"targets": [],
	},
	"alert": {"id": "a1", "source": "test", "severity": "high", "confidence": null, "rule_id": null, "entities": {}},
	"playbook": {"id": "p1", "version": null, "sha256": "00", "author": "ada"},
	"run": {"id": "r1", "kind": "alert", "attempt": 1, "depth": 0},
	"actor": {"id": "soar", "type": "service", "groups": []},
	"approvals": [],
	"time": {
		"now_rfc3339": "2026-01-05T12:00:00Z",
		"unix": 1767614400,
		"weekday": "monday",
		"business_hours": true,
		"freeze": [],
	},
	"environment": {"name": "test", "tenant": "default"},
	"counters": {"target": {}, "connector": {}, "playbook": {}, "fleet_percent": {}},
	"halted": false,
}
