# METADATA
# title: What a playbook may use
# description: >
#   A playbook changes things only through what data/allowlist.yaml gives it, by capability (`ticket.*`) or by connector and
#   verb (`jira.create_issue`). Reading and giving back need no entry.
package soar.controls.allowlist

import data.allowlist

evaluated contains "allowlist" if is_array(grants)

grants := object.get(allowlist.playbooks, input.playbook.id, allowlist.otherwise)

allowed if data.soar.lib.spoken_of(grants)

# Policy itself has a group told.
allowed if {
	input.run.kind == "notice"
	input.action.capability == "notify.send"
}

deny contains {"code": "allowlist.not_listed", "control": "allowlist", "msg": msg} if {
	input.action.effect != "read"
	not data.soar.lib.undoing
	not allowed
	msg := sprintf("playbook %s may not use %s (data/allowlist.yaml)", [input.playbook.id, data.soar.lib.action])
}
