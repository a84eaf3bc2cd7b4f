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
