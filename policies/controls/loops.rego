# METADATA
# title: Loops
# description: Playbooks that call each other too deep, or an action that is tried again and again (data/limits.yaml).
package soar.controls.loops

import data.limits

evaluated contains "loops" if {
	is_number(limits.depth)
	is_number(limits.attempts)
}

deny contains {"code": "loops.depth", "control": "loops", "msg": msg} if {
	input.run.depth > limits.depth
	msg := sprintf("the run is %d calls deep, at most %d (data/limits.yaml)", [input.run.depth, limits.depth])
}

deny contains {"code": "loops.attempts", "control": "loops", "msg": msg} if {
	input.run.attempt > limits.attempts
	msg := sprintf("this is attempt %d, at most %d (data/limits.yaml)", [input.run.attempt, limits.attempts])
}
