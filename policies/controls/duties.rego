# METADATA
# title: Duties
# description: >
#   What must happen with an action besides its being allowed: no more than so many in a time, undone after a time, a group
#   told, params masked (data/duties.yaml).
package soar.controls.duties

import data.duties

evaluated contains "duties" if {
	is_array(duties.rate)
	is_array(duties.expire)
	is_array(duties.notify)
	is_array(duties.redact)
}

# A rate counts what is sent, also what is given back.
duty contains {"type": "rate", "key": rate.key, "limit": rate.limit, "window": rate.window} if {
	some rate in duties.rate
	data.soar.lib.spoken_of(rate.on)
}

duty contains {"type": "expire", "after": expire.after} if {
	some expire in duties.expire
	data.soar.lib.spoken_of(expire.on)
	not data.soar.lib.undoing
}

duty contains {"type": "notify", "group": notify.group, "msg": notify.msg} if {
	some notify in duties.notify
	data.soar.lib.spoken_of(notify.on)
}

duty contains {"type": "redact", "fields": redact.fields} if {
	some redact in duties.redact
	data.soar.lib.spoken_of(redact.on)
}
