"""Every example of docs/policy-data.md is one that works."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from soar.policy.bundle import load_bundle
from soar.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy-data.md").read_text()
BLOCKS = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


def test_every_data_file_has_an_example() -> None:
    shown = {name.removeprefix("data/") for name, _ in BLOCKS} - {"soar.yaml"}
    assert shown == {path.name for path in (ROOT / "policies" / "data").iterdir()}


@pytest.mark.parametrize(("name", "text"), BLOCKS)
def test_an_example_is_sound(tmp_path: Path, name: str, text: str) -> None:
    if name == "soar.yaml":
        (tmp_path / name).write_text(text)
        assert load_settings(tmp_path / name, {}).settings.calendar.business_hours
        return
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    file = policies / name
    before = yaml.safe_load(file.read_text())
    file.write_text(text)
    after = yaml.load(text, yaml.BaseLoader)
    assert after.keys() <= before.keys()
    rest = {key: value for key, value in before.items() if key not in after}
    file.write_text(text + (yaml.safe_dump(rest) if rest else ""))
    bundle = load_bundle(policies)
    assert bundle.data[file.stem].keys() == before.keys()
    assert bundle.revision != load_bundle(ROOT / "policies").revision
