# METADATA
# title: Is the data sound?
# description: >
#   Asked once, when a bundle is loaded: any fault refuses it, at its place in data/*.yaml. A limit of "30" instead of 30
#   compares as larger than any number and would never hold; this is where that is found.
package soar.lint

import data.allowlist
import data.approvals as people
import data.assets
import data.duties
import data.freezes
import data.limits
import data.matrix
import data.networks
import data.people as persons

levels := {"allow", "deny"} | {name | some name, _ in people.levels}

severities := {"informational", "low", "medium", "high", "critical"}

kinds := {"contain", "destructive"}

level_text := sprintf("must be one of %s", [concat(", ", sort(levels))])

whole_number(value) if {
	is_number(value)
	value >= 0
	floor(value) == value
}

# Builtins fail on a value of another type, and a rule that fails finds no fault.
matches(pattern, text) if {
	is_string(text)
	regex.match(pattern, text)
}

# Names are compared folded to lower case; another spelling would never match, and must not pass for "nothing found".
folded(list) if {
	is_array(list)
	every name in list {
		matches(`^[^A-Z\s*]+$`, name)
	}
}

# assets.yaml

faults contains {"path": ["assets", "protected"], "msg": "must protect something"} if count(assets.protected) == 0

faults contains {"path": ["assets", section, title], "msg": msg} if {
	some section in ["protected", "tiers"]
	some title, list in assets[section]
	missing := {part | some part in ["names", "prefixes", "tags", "type"]; not has(list, part)} - optional[section]
	count(missing) > 0
	msg := sprintf("lacks %s", [concat(", ", sort(missing))])
}

faults contains {"path": ["assets", section, title, part], "msg": "must be a list of words in lower case, without *"} if {
	some section in ["protected", "tiers"]
	some title, list in assets[section]
	some part in ["names", "prefixes", "tags"]
	words := list[part]
	not folded(words)
}

faults contains {"path": ["assets", section, title, "type"], "msg": "must be host, user or any"} if {
	some section in ["protected", "tiers"]
	some title, list in assets[section]
	not list.type in {"any", "host", "user"}
}

faults contains {"path": ["assets", "fleet", type], "msg": "must be a whole number, 1 or more"} if {
	some type, size in assets.fleet
	not sound_size(size)
}

sound_size(size) if {
	whole_number(size)
	size > 0
}

optional := {"protected": set(), "tiers": {"tags"}}

has(list, part) if part in object.keys(list)

# networks.yaml

faults contains {"path": ["networks", "special"], "msg": "must not be empty"} if count(networks.special) == 0

faults contains {"path": ["networks", part, index], "msg": "is no network; write it as 192.0.2.0/24 or 2001:db8::/32"} if {
	some part in ["own", "special"]
	some index, range in networks[part]
	not sound_range(range)
}

sound_range(range) if {
	is_string(range)
	net.cidr_is_valid(range)
}

# limits.yaml

faults contains {"path": ["limits", scope, window], "msg": "must be a whole number, 0 or more"} if {
	some scope in ["connector", "playbook", "target"]
	some window in ["day", "hour"]
	not whole_number(limits[scope][window])
}

faults contains {"path": ["limits", "own", name, window], "msg": "must be `hour` or `day` with a whole number"} if {
	some name, own in limits.own
	some window, limit in own
	not sound_window(window, limit)
}

sound_window(window, limit) if {
	window in {"day", "hour"}
	whole_number(limit)
}

faults contains {"path": ["limits", "fleet_percent", type], "msg": "must be a number from 0 to 100"} if {
	some type, percent in limits.fleet_percent
	not percentage(percent)
}

percentage(value) if {
	is_number(value)
	value >= 0
	value <= 100
}

faults contains {"path": ["limits", name], "msg": "must be a whole number, 0 or more"} if {
	some name in ["attempts", "depth"]
	not whole_number(limits[name])
}

# matrix.yaml

faults contains {"path": ["matrix", kind, severity], "msg": level_text} if {
	some kind in kinds
	some severity in severities
	not matrix[kind][severity] in levels
}

faults contains {"path": ["matrix", "tiers", tier], "msg": level_text} if {
	some tier, level in matrix.tiers
	not level in levels
}

faults contains {"path": ["matrix", "low_confidence", "level"], "msg": level_text} if {
	not matrix.low_confidence.level in levels
}

faults contains {"path": ["matrix", "low_confidence", "below"], "msg": "must be a number from 0 to 100"} if {
	not percentage(matrix.low_confidence.below)
}

# freezes.yaml

# Instants in one spelling compare as text.
instant := `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`

sound_freeze(window) if {
	is_string(window.name)
	matches(instant, window.from)
	matches(instant, window.to)
	window.from < window.to
}

faults contains {"path": ["freezes", "windows", index], "msg": msg} if {
	some index, window in freezes.windows
	not sound_freeze(window)
	msg := "needs name, from and to, in UTC as 2026-12-20T00:00:00Z, from before to"
}

faults contains {"path": ["freezes", "critical_containment"], "msg": level_text} if {
	not freezes.critical_containment in levels
}

faults contains {"path": ["freezes", "outside_business_hours", kind], "msg": level_text} if {
	some kind in kinds
	not freezes.outside_business_hours[kind] in levels
}

# approvals.yaml

sound_quorum(groups) if {
	is_object(groups)
	count(groups) > 0
	every _, least in groups {
		whole_number(least)
		least > 0
		least <= 20
	}
}

faults contains {"path": ["approvals", "levels", name], "msg": "must name groups, each with a number of people from 1 to 20"} if {
	some name, groups in people.levels
	not sound_quorum(groups)
}

two_people if {
	sound_quorum(people.levels.two_people)
	sum([least | some least in people.levels.two_people]) > 1
}

faults contains {"path": ["approvals", "levels", "two_people"], "msg": "must ask for at least two people"} if not two_people

faults contains {"path": ["approvals", name], "msg": "must be a duration such as 30m"} if {
	some name in ["execution_ttl", "ttl"]
	not matches(`^([0-9]+(ms|s|m|h|d|w))+$`, people[name])
}

faults contains {"path": ["approvals", "reason_required"], "msg": "must be a list of levels"} if {
	not list_of(people.reason_required, levels)
}

faults contains {"path": ["approvals", "chat_methods"], "msg": "must be a list of methods"} if not folded(people.chat_methods)

list_of(list, known) if {
	is_array(list)
	every word in list {
		word in known
	}
}

# allowlist.yaml

sound_grants(grants) if {
	is_array(grants)
	every grant in grants {
		matches(`^([*]|[a-z][a-z0-9_-]*[.]([*]|[a-z][a-z0-9_]*))$`, grant)
	}
}

grant_text := "must be a list of `*`, `ticket.*`, `ticket.create` or `jira.create_issue`"

faults contains {"path": ["allowlist", "otherwise"], "msg": grant_text} if not sound_grants(allowlist.otherwise)

faults contains {"path": ["allowlist", "playbooks", name], "msg": grant_text} if {
	some name, grants in allowlist.playbooks
	not sound_grants(grants)
}

# people.yaml

deeds := {
	"answer", "approve", "cancel", "deny", "halt", "pause", "read", "release", "resolve", "resume", "retry", "skip",
	"suppress", "undo", "unsuppress",
}

deed_text := sprintf("is no deed; those are %s", [concat(", ", sort(deeds))])

faults contains {"path": ["people", "may", deed], "msg": deed_text} if {
	some deed, _ in persons.may
	not deed in deeds
}

faults contains {"path": ["people", "may", deed], "msg": "must be a list of groups and names"} if {
	some deed, names in persons.may
	not named(names)
}

faults contains {"path": ["people", "playbooks", name, deed], "msg": deed_text} if {
	some name, lists in persons.playbooks
	some deed, _ in lists
	not deed in deeds
}

faults contains {"path": ["people", "playbooks", name, deed], "msg": "must be a list of groups and names"} if {
	some name, lists in persons.playbooks
	some deed, names in lists
	not named(names)
}

named(names) if {
	is_array(names)
	every name in names {
		matches(`.`, name)
	}
}

# duties.yaml

duty_text := {
	"rate": "needs on, a key, a limit of 1 or more, and a window such as 10m",
	"expire": "needs on, and after, a duration such as 24h",
	"notify": "needs on, a group and a msg",
	"redact": "needs on, and fields such as [password, headers.authorization]",
}

duration := `^([0-9]+(ms|s|m|h|d|w))+$`

words(value) if {
	is_array(value)
	count(value) > 0
	every word in value {
		matches(`.`, word)
	}
}

sound_duty("rate", duty) if {
	matches(`.`, duty.key)
	whole_number(duty.limit)
	duty.limit > 0
	matches(duration, duty.window)
}

sound_duty("expire", duty) if matches(duration, duty.after)

sound_duty("notify", duty) if {
	matches(`.`, duty.group)
	matches(`.`, duty.msg)
}

sound_duty("redact", duty) if words(duty.fields)

well_spoken(duty) if {
	words(duty.on)
	sound_grants(duty.on)
}

faults contains {"path": ["duties", kind], "msg": "must be a list"} if {
	some kind, _ in duty_text
	not is_array(duties[kind])
}

faults contains {"path": ["duties", kind, index], "msg": text} if {
	some kind, text in duty_text
	is_array(duties[kind])
	some index, duty in duties[kind]
	not sound_duty(kind, duty)
}

faults contains {"path": ["duties", kind, index, "on"], "msg": grant_text} if {
	some kind, _ in duty_text
	is_array(duties[kind])
	some index, duty in duties[kind]
	not well_spoken(duty)
}

# halt.yaml

faults contains {"path": ["halt", "active"], "msg": "must be true or false"} if not is_boolean(data.halt.active)
