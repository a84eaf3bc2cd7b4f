# METADATA
# title: What people may do
# description: >
#   Who may approve, retry, halt and so on: by group or name, for each deed, and for each playbook where that has lists of
#   its own (data/people.yaml). Asked before each deed, with schemas/person.json; whatever is undefined here is refused.
# scope: package
# schemas:
#   - input: {type: object}
package soar.people

import data.people

decision := {
	"schema": "soar.permission/v1",
	"allow": allow,
	"reasons": reasons,
}

default allow := false

allow if listed

own := object.get(people.playbooks, [input.subject.playbook, input.deed], null)

names := own if is_array(own)

names := people.may[input.deed] if not is_array(own)

listed if "*" in names

listed if input.person.name in names

listed if {
	some group in input.person.groups
	group in names
}

reasons := [] if allow

reasons := [{"code": "people.not_listed", "msg": msg}] if {
	not allow
	msg := sprintf("%s is not among those who may %s%s (data/people.yaml)", [input.person.name, input.deed, whose])
}

whose := "" if not is_array(own)

whose := sprintf(" runs of %s", [input.subject.playbook]) if is_array(own)
