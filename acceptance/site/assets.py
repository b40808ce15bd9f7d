"""The client's asset list: which GPU, by serial number, belongs to which host."""

from __future__ import annotations

from pathlib import Path

from acceptance.errors import ContractError


def load_assets(path: Path) -> dict[str, list[str]]:
    """Serial numbers by host from a file of "host serial" lines; # begins a comment. Raises ContractError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: gpu.asset_list cannot be read: {error}") from None
    assets: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise ContractError(f"{path} line {number}: expected \"host serial\", found {line.strip()[:60]!r}")
        assets.setdefault(words[0], []).append(words[1])
    if not assets:
        raise ContractError(f"{path}: gpu.asset_list names no GPU")
    return assets
