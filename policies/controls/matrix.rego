# METADATA
# title: Severity, confidence, harm
# description: >
#   Who must agree, by how bad the alert is and how much harm the action can do; low confidence and servers raise it
#   (data/matrix.yaml).
package soar.controls.matrix

import data.matrix

evaluated contains "matrix" if {
	is_object(matrix.contain)
	is_object(matrix.destructive)
}

verdicts contains {"level": level, "code": "matrix.severity", "msg": msg} if {
	data.soar.lib.harmful
	level := matrix[data.soar.lib.kind][input.alert.severity]
	msg := sprintf("a %s action on an alert of severity %s", [data.soar.lib.kind, input.alert.severity])
}

verdicts contains {"level": matrix.low_confidence.level, "code": "matrix.confidence", "msg": msg} if {
	data.soar.lib.harmful
	input.alert.confidence < matrix.low_confidence.below
	is_number(input.alert.confidence)
	msg := sprintf("a %s action on an alert of confidence %d", [data.soar.lib.kind, input.alert.confidence])
}

verdicts contains {"level": matrix.tiers[tier], "code": "matrix.tier", "msg": msg} if {
	data.soar.lib.harmful
	some target in input.action.targets
	some tier in data.soar.lib.tiers(target)
	msg := sprintf("%s %s is of tier %s", [target.type, target.id, tier])
}

deny contains {"code": verdict.code, "control": "matrix", "msg": msg} if {
	some verdict in verdicts
	verdict.level == "deny"
	msg := sprintf("%s: denied (data/matrix.yaml)", [verdict.msg])
}

approval contains {"level": verdict.level, "code": verdict.code, "control": "matrix", "msg": msg} if {
	some verdict in verdicts
	not verdict.level in {"allow", "deny"}
	msg := sprintf("%s: people must agree", [verdict.msg])
}
