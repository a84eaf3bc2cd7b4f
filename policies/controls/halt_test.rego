package soar.tests.halt

import data.soar.controls.halt
import data.soar.fixtures

test_nothing_is_denied_while_it_is_off if count(halt.deny) == 0 with input as fixtures.read with data.halt as data.soar.samples.halt

test_the_switch_in_data_stops_even_a_read if {
	some reason in halt.deny with input as fixtures.read with data.halt as {"active": true, "reason": "drill"}
	reason.code == "halt.active"
	contains(reason.msg, "drill")
}

test_the_switch_in_the_input_stops_even_a_read if {
	count(halt.deny) == 1 with input as data.soar.fixtures.question({"halted": true}) with data.halt as data.soar.samples.halt
}
