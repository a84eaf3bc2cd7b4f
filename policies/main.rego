# METADATA
# title: The decision
# description: >
#   Gathers what every control under data.soar.controls says. A control is a file in controls/ that defines any of
#   `deny`, `approval`, `duty` and `warn`, and lists itself in `evaluated` once its own data is sound. Deny beats approval, approval
#   beats allow. There is no default: whatever is undefined here is denied by the gate.
package soar.main

import data.approvals as people

decision := {
	"schema": "soar.decision/v1",
	"effect": effect,
	"reasons": sort(reasons),
	"warnings": sort(warnings),
	"obligations": obligations,
	"controls_evaluated": sort(controls_evaluated),
}

controls_evaluated contains name if {
	some name in data.soar.controls[_].evaluated
}

denials contains reason if {
	some reason in data.soar.controls[_].deny
}

asks contains ask if {
	some ask in data.soar.controls[_].approval
}

warnings contains warning if {
	some warning in data.soar.controls[_].warn
}

effect := "deny" if {
	count(denials) > 0
} else := "require_approval" if {
	count(asks) > 0
} else := "allow"

reasons := denials if effect == "deny"

reasons := said if {
	effect != "deny"
	said := {object.remove(ask, ["level"]) | some ask in asks}
}

# What must happen besides: of a denial, groups are told, and no more.
duties contains duty if {
	some control in data.soar.controls
	some duty in control.duty
	not idle(duty)
}

idle(duty) if {
	effect == "deny"
	duty.type != "notify"
}

obligations := array.concat(approvals, sort(duties))

approvals := [] if effect != "require_approval"

approvals := [obligation] if {
	effect == "require_approval"
	obligation := {
		"type": "approval",
		"groups": groups,
		"distinct": true,
		"exclude": ["playbook_author", "requester"],
		"ttl": people.ttl,
		"execution_ttl": people.execution_ttl,
		"reason_required": reason_required,
	}
}

groups := [{"group": name, "min": least} | some name, least in quorum]

# Every group that some ask's level names, with the largest number that any of them wants.
quorum[name] := max(wanted) if {
	some ask in asks
	some name, _ in people.levels[ask.level]
	wanted := {least |
		some other in asks
		least := people.levels[other.level][name]
	}
}

reason_required if {
	some ask in asks
	ask.level in people.reason_required
} else := false
