"""Where evidence that is judged again was recorded, and when: only evidence of the contract's own site may be judged.

A run in the lab must never become a report on the cluster by being judged with the cluster's contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acceptance.errors import WrongUse
from acceptance.evidence import Evidence
from acceptance.model import read_header
from acceptance.site.load import Site

UNKNOWN = "where this evidence was recorded is not known: no run.json that tells it is beside it"


def origin(source: Path, evidence: Evidence, site: Site, option: str) -> dict[str, Any]:
    """Of recorded evidence: `known`, run id, site, environment, suite, and the times of its first and last record.

    Raises WrongUse when it was recorded at another site or in another environment, or run.json cannot be read.
    """
    times = sorted(record.at for record in evidence.all)
    measured = {"first": times[0], "last": times[-1]} if times else {"first": None, "last": None}
    if not (source.parent / "run.json").exists():
        return {"known": False, **measured}
    header = read_header(source.parent)
    earlier = header.get("recorded")  # that run was itself a judgement of something recorded before
    found = earlier if isinstance(earlier, dict) else _recorder(header, source)
    if not isinstance(earlier, dict) and header.get("evidence_source"):  # judged before this was noted
        found = {"known": False}
    if found.get("known"):
        _same_site(found, header, site, option)
    return {**found, **measured}


def _recorder(header: dict[str, Any], source: Path) -> dict[str, Any]:
    site = header["site"]
    if not isinstance(site, dict) or not all(isinstance(site.get(key), str) for key in ("name", "environment")):
        raise WrongUse(f"{source.parent / 'run.json'}: damaged: expected the name and environment of a site")
    suite = header.get("suite") or {"version": header.get("version")}
    return {"known": True, "run_id": header["run_id"], "site": site["name"], "environment": site["environment"],
            "suite": suite}


def _same_site(found: dict[str, Any], header: dict[str, Any], site: Site, option: str) -> None:
    here = site.contract.site
    name, environment = found.get("site"), found.get("environment")
    if (name, environment) != (here.name, here.environment):
        raise WrongUse(
            f"--evidence {option}: recorded at site {name} ({environment}), but {site.path} is the "
            f"contract of site {here.name} ({here.environment}); expected a contract of the site that was measured, "
            f"which was {header.get('site_file', 'not noted')}: name it with --site FILE")
