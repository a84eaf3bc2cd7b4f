# METADATA
# title: Blast radius
# description: >
#   How much may be taken per hour and day from one target, through one connector, by one playbook, and of the fleet
#   (data/limits.yaml). Counters hold what was done before this action.
package soar.controls.blast_radius

import data.limits

evaluated contains "blast_radius" if {
	is_object(limits.target)
	is_object(limits.connector)
	is_object(limits.playbook)
}

subjects contains ["connector", input.action.connector]

subjects contains ["playbook", input.playbook.id]

subjects contains ["target", key] if {
	some target in input.action.targets
	key := sprintf("%s:%s", [target.type, target.id])
}

# Connectors and playbooks may have limits of their own.
limit("target", _, window) := limits.target[window]

limit(scope, name, window) := object.get(limits.own, [name, window], limits[scope][window]) if scope in {"connector", "playbook"}

deny contains {"code": code, "control": "blast_radius", "msg": msg} if {
	data.soar.lib.harmful
	some [scope, name] in subjects
	some window in ["day", "hour"]
	done := input.counters[scope][name][window]
	most := limit(scope, name, window)
	done >= most
	code := sprintf("blast_radius.%s_%s", [scope, window])
	msg := sprintf("%s %s: %d actions in the last %s, at most %d (data/limits.yaml)", [scope, name, done, window, most])
}

deny contains {"code": "blast_radius.fleet", "control": "blast_radius", "msg": msg} if {
	data.soar.lib.harmful
	some type, percent in input.counters.fleet_percent
	some target in input.action.targets
	target.type == type
	percent >= limits.fleet_percent[type]
	shown := ceil(percent) # engines differ in the last digits of a long fraction
	msg := sprintf("up to %v%% of all %ss are affected, at most %v%% (data/limits.yaml)", [shown, type, limits.fleet_percent[type]])
}
