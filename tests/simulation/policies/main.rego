package soar.main

decision := {
    "schema": "soar.decision/v1",
    "effect": effect,
    "reasons": reasons,
    "warnings": [],
    "obligations": obligations,
    "controls_evaluated": ["simulated"],
}

default effect := "allow"

effect := "deny" if forbidden

effect := "require_approval" if {
    not forbidden
    input.action.risk == "destructive"
}

forbidden if input.action.targets[_].id == "forbidden"

default reasons := []

reasons := [{"code": "simulated.forbidden", "control": "simulated", "msg": "nobody touches this one"}] if forbidden

default obligations := []

obligations := [{
    "type": "approval",
    "groups": [{"group": "soc", "min": 1}, {"group": "lead", "min": 1}],
    "ttl": "40s",
    "execution_ttl": "15s",
}] if {
    not forbidden
    input.action.risk == "destructive"
}
