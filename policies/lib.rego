# METADATA
# title: Words that controls share
# description: Functions are called by their full path, `data.soar.lib.listed(...)`; the embedded engine asks for it.
package soar.lib

# An undo gives back what an action took. It is harmless unless it destroys something itself.
undoing if input.run.kind == "undo"

# Taking something from someone: the only thing that most controls care about.
harmful if input.action.risk == "destructive"

harmful if {
	input.action.effect != "read"
	input.action.risk == "contain"
	not undoing
}

# A contain action without an undo cannot be taken back, and counts as destructive.
kind := "destructive" if {
	harmful
	"destructive" in {input.action.risk, input.action.effect}
} else := "contain" if {
	harmful
} else := "none"

# Whether a list of data/assets.yaml knows one of a target's spellings.
listed(target, list) if {
	some name in target.names
	name in list.names
}

listed(target, list) if strings.any_prefix_match(target.names, list.prefixes)

# The names under which data files may speak of this action: `*`, `host.isolate`, `host.*`, `lab_edr.isolate`, `lab_edr.*`.
action := sprintf("%s.%s", [input.action.connector, input.action.verb])

names := {"*", action, sprintf("%s.*", [input.action.connector])} | capability

capability := set() if not is_string(input.action.capability)

capability := {input.action.capability, family} if {
	is_string(input.action.capability)
	family := sprintf("%s.*", [split(input.action.capability, ".")[0]])
}

# Whether a list of such names speaks of it.
spoken_of(list) if {
	some name in list
	name in names
}

# A target's tiers: what the asset list says, else every tier in data/assets.yaml that knows it.
tiers(target) := {target.tier} if is_string(target.tier)

tiers(target) := known if {
	not is_string(target.tier)
	known := {name |
		some name, list in data.assets.tiers
		list.type == target.type
		listed(target, list)
	}
}
