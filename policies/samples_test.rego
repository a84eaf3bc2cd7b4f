# Data that tests stand on, so that they hold whatever stands in data/: who edits that need not edit tests.
package soar.samples

assets := {
	"protected": {
		"domain controllers": {"type": "host", "names": ["dc"], "prefixes": ["dc-", "dc1"], "tags": ["domain-controller"]},
		"identity provider": {"type": "host", "names": [], "prefixes": ["idp"], "tags": []},
		"security tools": {"type": "host", "names": [], "prefixes": ["edr-", "siem"], "tags": []},
		"this orchestrator": {"type": "any", "names": ["soar"], "prefixes": ["soar-", "svc-soar"], "tags": []},
		"people": {"type": "user", "names": ["ceo"], "prefixes": ["breakglass", "exec-"], "tags": []},
		"anything marked": {"type": "any", "names": [], "prefixes": [], "tags": ["tier0"]},
	},
	"tiers": {"server": {"type": "host", "names": [], "prefixes": ["db-", "srv", "web-"]}},
}

matrix := {
	"contain": {"informational": "approval", "low": "approval", "medium": "approval", "high": "allow", "critical": "allow"},
	"destructive": {
		"informational": "deny",
		"low": "two_people",
		"medium": "two_people",
		"high": "two_people",
		"critical": "two_people",
	},
	"low_confidence": {"below": 40, "level": "approval"},
	"tiers": {"server": "approval"},
}

limits := {
	"target": {"hour": 2, "day": 4},
	"connector": {"hour": 10, "day": 20},
	"playbook": {"hour": 10, "day": 20},
	"own": {"careful": {"hour": 1, "day": 3}},
	"fleet_percent": {"host": 5},
	"depth": 5,
	"attempts": 20,
}

approvals := {
	"levels": {"approval": {"soc-lead": 1}, "two_people": {"soc-lead": 1, "ir-manager": 1}},
	"ttl": "30m",
	"execution_ttl": "15m",
	"reason_required": ["two_people"],
	"chat_methods": ["slack", "teams"],
}

networks := {
	"special": ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"],
	"own": [],
}

freezes := {
	"windows": [],
	"critical_containment": "approval",
	"outside_business_hours": {"contain": "allow", "destructive": "two_people"},
}

halt := {"active": false, "reason": ""}

allowlist := {"playbooks": {}, "otherwise": ["*"]}
