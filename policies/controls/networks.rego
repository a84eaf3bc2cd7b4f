# METADATA
# title: Addresses that are never blocked
# description: >
#   RFC 1918 and other special ranges, and our own (data/networks.yaml). `addresses` holds a target's address in canonical
#   form, and the IPv4 address within a mapped, 6to4 or NAT64 one; it is empty for what is no address.
package soar.controls.networks

import data.networks

ranges := array.concat(networks.special, networks.own)

evaluated contains "networks" if count(ranges) > 0

deny contains {"code": "networks.never_block", "control": "networks", "msg": msg} if {
	data.soar.lib.harmful
	some target in input.action.targets
	target.type in {"ip", "observable"}
	some address in target.addresses
	some range in ranges
	net.cidr_contains(range, address)
	msg := sprintf("%s lies in %s, which is never blocked (data/networks.yaml)", [target.id, range])
}

deny contains {"code": "networks.no_address", "control": "networks", "msg": msg} if {
	data.soar.lib.harmful
	some target in input.action.targets
	target.type == "ip"
	count(target.addresses) == 0
	msg := sprintf("%s is no single IP address", [target.id])
}
