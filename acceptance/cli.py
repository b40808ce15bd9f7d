"""`acceptance list | explain CHECK | plan [-m EXPR] | report RUN | schema | contract`.

pytest is the interface for running checks; this command is for what is looked up beside it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from acceptance.checks import COLLECTORS, Check
from acceptance.errors import AcceptanceError, WrongUse
from acceptance.guide import CLAUSES, PHASES_WITH_CHECKS, coverage, gaps
from acceptance.selection import check_expression, load_catalogue, markers_of, subjects_of
from acceptance.site.load import Site, find_site_file, load_site


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; exit code 4 and one line for a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.action(options))
    except AcceptanceError as error:
        print(f"acceptance: {error}", file=sys.stderr)
        return 4
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"acceptance: {error.filename or 'error'}: {error.strerror or error}; expected a place that can be read "
              "and written", file=sys.stderr)
        return 4


class _Parser(argparse.ArgumentParser):
    commands: tuple[str, ...] = ()

    def error(self, message: str) -> None:  # type: ignore[override]
        wrong = re.search(r"invalid choice: '([^']*)'", message)
        near = difflib.get_close_matches(wrong[1], self.commands, n=1) if wrong else []
        if wrong and near:
            message = f"{wrong[0]}; did you mean {near[0]}?"
        self.exit(4, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="acceptance", description=__doc__.split("\n\n")[-1] if __doc__ else "")
    site = "the contract; default: ACCEPTANCE_SITE, else site.yaml here"
    parser.add_argument("--site", metavar="FILE", help=site)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, action: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        if action in (_plan, _contract):  # may stand before the command or after it
            sub.add_argument("--site", metavar="FILE", help=site, default=argparse.SUPPRESS)
        return sub

    command("list", "every check; with --coverage, the guide's clauses and what proves them", _list).add_argument(
        "--coverage", action="store_true")
    command("explain", "one check: criterion, clause, evidence, remedy", _explain).add_argument("check")
    command("plan", "every command that a run would give, host by host, before it is run", _plan).add_argument(
        "-m", dest="markers", default="", metavar="EXPR", help='for example "phase2 and gpu"')
    command("report", "write the reports of a run folder again", _report).add_argument("run", type=Path)
    command("schema", "the contract's JSON Schema", _schema).add_argument(
        "--write", type=Path, metavar="FILE", help="to a file instead of the terminal")
    command("contract", "the contract as read, with everything it extends, as JSON", _contract)
    parser.commands = tuple(commands.choices)
    return parser


def _site(options: argparse.Namespace) -> Site:
    return load_site(find_site_file(options.site, Path.cwd()))


def _catalogue() -> dict[str, Check]:
    from acceptance.collectors import register

    register()
    checks = load_catalogue(Path(__file__).parents[1])
    if not checks:
        raise WrongUse("no check was found; expected tests_* folders beside the package")
    return checks


def _list(options: argparse.Namespace) -> int:
    checks = _catalogue()
    if not options.coverage:
        for check in sorted(checks.values(), key=lambda c: (c.phase, c.layer, c.id)):
            print(f"phase{check.phase}  {check.layer:14} {check.id:22} {check.criterion}")
        return 0
    for clause, ids in coverage(checks).items():
        later = CLAUSES.get(clause, 0) not in PHASES_WITH_CHECKS
        print(f"{clause}: {', '.join(ids) or ('not yet' if later else 'NO CHECK')}")
    problems = gaps(checks)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _explain(options: argparse.Namespace) -> int:
    checks = _catalogue()
    check = checks.get(options.check)
    if check is None:
        near = difflib.get_close_matches(options.check, checks, n=1)
        hint = f"did you mean {near[0]}?" if near else "see `acceptance list`"
        raise WrongUse(f"no check is called {options.check}; {hint}")
    evidence = [f"{need}: {COLLECTORS[need].purpose}" for need in check.needs] or ["the contract and the inventory"]
    print(f"{check.id} ({check.level}, phase {check.phase}, {check.layer})\n\n{check.criterion}\n\n"
          f"clause    {check.clause}\njudges    {check.hosts or 'the cluster as a whole'}\n"
          f"evidence  {'; '.join(evidence)}\nremedy    {check.remedy}\n"
          f"run       pytest {check.module.replace('.', '/')}.py::{check.function}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from acceptance.planning import planned_commands
    from acceptance.selection import MARKERS

    check_expression(options.markers, MARKERS)
    site, checks = _site(options), _catalogue()
    chosen = [check for check in checks.values() if _matches(options.markers, markers_of(check))
              and check.id not in site.contract.not_measurable]
    if not chosen:
        print("nothing is selected", file=sys.stderr)
        return 5
    for need in dict.fromkeys(need for check in chosen for need in check.needs):
        one = COLLECTORS[need]
        print(f"collect {need}: {one.purpose}{' (intrusive)' if one.intrusive else ''}; at most "
              f"{one.bound_s(site.contract):.0f} s")
        for host, command in planned_commands(one, site):
            print(f"  {host}: {command}")
    for check in chosen:
        print(f"judge   {check.id}: {', '.join(subjects_of(check, site))}")
    return 0


def _matches(expression: str, markers: Sequence[str]) -> bool:
    from _pytest.mark.expression import Expression

    def has(name: str, /, **_: object) -> bool:
        return name in markers

    return not expression or bool(Expression.compile(expression).evaluate(has))


def _report(options: argparse.Namespace) -> int:
    from acceptance.report import write_reports
    from acceptance.terminal import contradiction_lines

    report = write_reports(options.run)
    for line in contradiction_lines(report):
        print(line, file=sys.stderr)
    print(options.run / "report.html")
    return 1 if report.contradictions else 0


def _schema(options: argparse.Namespace) -> int:
    from acceptance.site.contract import Contract

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Contract.model_json_schema(by_alias=True)
    text = json.dumps(schema, indent=1) + "\n"
    if options.write is None:
        print(text, end="")
    else:
        options.write.write_text(text, encoding="utf-8")
    return 0


def _contract(options: argparse.Namespace) -> int:
    site = _site(options)
    inventory = Path(os.path.expanduser(site.contract.inventory))
    data = site.contract.model_dump(mode="json", by_alias=True) | {
        "inventory_path": str(inventory if inventory.is_absolute() else (site.path.parent / inventory).resolve())}
    for warning in site.warnings:
        print(f"acceptance: warning: {warning}", file=sys.stderr)
    print(json.dumps(data, indent=1))
    return 0
