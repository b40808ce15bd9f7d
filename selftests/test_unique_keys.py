"""A host or key that stands twice in a file is refused, not silently dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from acceptance.errors import InventoryError
from acceptance.site.inventory import read_inventory
from acceptance.site.unique import load_yaml


def test_a_host_named_twice_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text("all: {children: {gpu_nodes: {hosts: {n1: {ansible_host: 10.0.0.1}, n1: {}}}}}")
    with pytest.raises(InventoryError, match="key n1 is given twice"):
        read_inventory(path)


def test_keys_that_stand_once_in_each_mapping_are_fine() -> None:
    assert load_yaml("a: {x: 1}\nb: {x: 2}") == {"a": {"x": 1}, "b": {"x": 2}}
    assert load_yaml("base: &b {x: 1}\nc: {<<: *b, y: 2}")["c"] == {"x": 1, "y": 2}
    assert load_yaml("base: &b {x: 1}\nc: {<<: *b, x: 2}")["c"] == {"x": 2}


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: {b: 1, c: 2, b: 1}", "- {x: 1, 'x': 2}"])
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="given twice"):
        load_yaml(text)
