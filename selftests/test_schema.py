"""The JSON Schema in docs/ is the contract's, and the contracts in this repository follow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from acceptance.cli import main
from acceptance.site.contract import Contract
from selftests.synthetic import ROOT

PATH = ROOT / "docs" / "schema" / "site.schema.json"
SCHEMA: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
Change = Callable[[dict[str, Any]], Any]


def merged(site: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """A contract with everything that it extends."""
    assert main(["--site", str(site), "contract"]) == 0
    contract: dict[str, Any] = json.loads(capsys.readouterr().out)
    del contract["inventory_path"]
    return contract


def test_the_schema_in_docs_is_what_the_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", "--write", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text() == PATH.read_text(), (
        "run: acceptance schema --write docs/schema/site.schema.json")
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == PATH.read_text()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(SCHEMA["properties"]) == set(Contract.model_fields)
    assert SCHEMA["additionalProperties"] is False


def test_the_clients_contract_follows_the_schema() -> None:
    jsonschema.validate(yaml.safe_load((ROOT / "site.yaml").read_text()), SCHEMA)


@pytest.mark.parametrize("name", ["site.yaml", "lab/site.yaml"])
def test_a_contract_with_what_it_extends_follows_the_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.validate(merged(ROOT / name, capsys), SCHEMA)


@pytest.mark.parametrize("change", [
    lambda c: c["gpu"].update(memroy_mib=c["gpu"].pop("memory_mib")), lambda c: c.pop("ssh"),
    lambda c: c["gpu"].update(count=0), lambda c: c["network"]["fabric"].update(mtu="jumbo"),
    lambda c: c["security"]["firewall"]["allow"][0].pop("reason"), lambda c: c["kernel"].update(fatal_xids=[]),
    lambda c: c["site"].update(environment="test"), lambda c: c.update(extra=1)])
def test_what_the_contract_refuses_the_schema_refuses(change: Change) -> None:
    contract = yaml.safe_load((ROOT / "site.yaml").read_text())
    change(contract)
    with pytest.raises(ValueError, match="validation error"):
        Contract.model_validate(contract)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(contract, SCHEMA)
