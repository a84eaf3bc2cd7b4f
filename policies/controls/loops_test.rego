package soar.tests.loops

import data.soar.controls.loops

codes(run) := {reason.code |
	some reason in loops.deny with input as data.soar.fixtures.question({"run": run})
		with data.limits as data.soar.samples.limits
}

test_up_to_the_limits_is_fine if codes({"depth": 5, "attempt": 20}) == set()

test_deeper_calls_are_denied if codes({"depth": 6}) == {"loops.depth"}

test_more_tries_are_denied if codes({"attempt": 21}) == {"loops.attempts"}
