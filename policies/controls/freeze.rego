# METADATA
# title: Change freeze and business hours
# description: >
#   In a freeze nothing is taken from anyone, except containment of a critical alert, with approval (data/freezes.yaml).
#   Giving back is always possible.
package soar.controls.freeze

import data.freezes

evaluated contains "freeze" if {
	is_array(freezes.windows)
	is_string(now)
}

# Data spells instants as the input does, `2026-12-24T00:00:00Z`; in one spelling they compare as text.
now := input.time.now_rfc3339

active contains name if some name in input.time.freeze

active contains window.name if {
	some window in freezes.windows
	window.from <= now
	now < window.to
}

exempt if {
	data.soar.lib.kind == "contain"
	input.alert.severity == "critical"
}

verdicts contains {"level": level, "code": "freeze.active", "msg": msg} if {
	data.soar.lib.harmful
	some name in active
	level := freeze_level
	msg := sprintf("the change freeze %s is on", [name])
}

freeze_level := freezes.critical_containment if exempt

freeze_level := "deny" if not exempt

verdicts contains {"level": level, "code": "freeze.business_hours", "msg": msg} if {
	data.soar.lib.harmful
	not input.time.business_hours
	not exempt
	level := freezes.outside_business_hours[data.soar.lib.kind]
	msg := sprintf("a %s action outside business hours", [data.soar.lib.kind])
}

deny contains {"code": verdict.code, "control": "freeze", "msg": verdict.msg} if {
	some verdict in verdicts
	verdict.level == "deny"
}

approval contains {"level": verdict.level, "code": verdict.code, "control": "freeze", "msg": msg} if {
	some verdict in verdicts
	not verdict.level in {"allow", "deny"}
	msg := sprintf("%s: people must agree", [verdict.msg])
}
