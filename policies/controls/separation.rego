# METADATA
# title: Separation of duties
# description: >
#   What cannot be taken back needs two people, whatever the matrix says. Nobody approves what they asked for or wrote, and
#   a chat room does not approve destruction (data/approvals.yaml).
package soar.controls.separation

import data.approvals as people

evaluated contains "separation" if is_object(people.levels.two_people)

approval contains {"level": "two_people", "code": "separation.two_people", "control": "separation", "msg": msg} if {
	data.soar.lib.kind == "destructive"
	msg := sprintf("%s.%s cannot be taken back: two people must agree", [input.action.connector, input.action.verb])
}

grants := [vote | some vote in input.approvals; vote.decision == "grant"]

deny contains {"code": "separation.self_approval", "control": "separation", "msg": msg} if {
	some vote in grants
	vote.approver == input.actor.id
	msg := sprintf("%s asked for this action and may not approve it", [vote.approver])
}

deny contains {"code": "separation.author_approval", "control": "separation", "msg": msg} if {
	some vote in grants
	vote.approver == input.playbook.author
	msg := sprintf("%s wrote the playbook and may not approve its actions", [vote.approver])
}

deny contains {"code": "separation.chat_approval", "control": "separation", "msg": msg} if {
	data.soar.lib.kind == "destructive"
	some vote in grants
	vote.method in people.chat_methods
	msg := sprintf("%s approved by %s; destructive actions are approved in the console or by CLI", [vote.approver, vote.method])
}
