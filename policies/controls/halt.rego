# METADATA
# title: Kill switch
# description: While it is set nothing is sent, reads and undos included. The engine enforces it too; this is the second lock.
package soar.controls.halt

evaluated contains "halt" if is_boolean(data.halt.active)

deny contains {"code": "halt.active", "control": "halt", "msg": msg} if {
	data.halt.active
	msg := sprintf("everything is halted by data/halt.yaml: %s", [data.halt.reason])
}

deny contains {"code": "halt.active", "control": "halt", "msg": "everything is halted; `soar resume` ends it"} if {
	input.halted
}
