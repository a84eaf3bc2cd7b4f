# METADATA
# title: Protected assets
# description: Nothing is ever taken from what data/assets.yaml protects, whoever approves. People act there by hand.
package soar.controls.protected

import data.assets

evaluated contains "protected" if count(assets.protected) > 0

deny contains {"code": "protected.asset", "control": "protected", "msg": msg} if {
	data.soar.lib.harmful
	some target in input.action.targets
	some title, asset in assets.protected
	asset.type in {"any", target.type}
	covers(asset, target)
	msg := sprintf("%s %s is protected: %s (data/assets.yaml)", [target.type, target.id, title])
}

covers(asset, target) if data.soar.lib.listed(target, asset)

covers(asset, target) if {
	some tag in target.tags
	tag in asset.tags
}
