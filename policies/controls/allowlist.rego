# METADATA
# title: What a playbook may use
# description: >
#   A playbook changes things only through what data/allowlist.yaml gives it, by capability (`ticket.*`) or by connector and
#   verb (`jira.create_issue`). Reading and giving back need no entry.
package soar.controls.allowlist

import data.allowlist

evaluated contains "allowlist" if is_array(grants)

grants := object.get(allowlist.playbooks, input.playbook.id, allowlist.otherwise)

# Every grant that would cover this action.
names := {"*", action, sprintf("%s.*", [input.action.connector])} | capability

action := sprintf("%s.%s", [input.action.connector, input.action.verb])

capability := set() if not is_string(input.action.capability)

capability := {input.action.capability, family} if {
	is_string(input.action.capability)
	family := sprintf("%s.*", [split(input.action.capability, ".")[0]])
}

allowed if {
	some grant in grants
	grant in names
}

deny contains {"code": "allowlist.not_listed", "control": "allowlist", "msg": msg} if {
	input.action.effect != "read"
	not data.soar.lib.undoing
	not allowed
	msg := sprintf("playbook %s may not use %s (data/allowlist.yaml)", [input.playbook.id, action])
}
