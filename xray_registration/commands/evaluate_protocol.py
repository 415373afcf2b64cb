"""What ``evaluate --protocol`` does: simulated cases with known truth, registered and scored."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import make_folder, read_yaml_mapping

if TYPE_CHECKING:
    from xray_registration.evaluation.protocol import Protocol
    from xray_registration.evaluation.runner import RunOptions

DESCRIPTION = """\
--protocol NAME instead of SOURCE: registers the protocol's simulated cases, whose true poses are
known. NAME: spine-single, spine-biplane, head-single, pelvis-single, spine-hard-single,
spine-hard-biplane, reject, or a YAML file of that form. head, pelvis and reject need 'make data'.
"""
EPILOG = """\
Written to --out DIR (default evaluation_NAME): report.html, summary.json, cases.csv, and
records.jsonl, from which a run that was stopped goes on. Pictures are kept in
$XDG_CACHE_HOME/xray_registration/pictures.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of protocols."""
    group = parser.add_argument_group("a protocol")
    group.add_argument(
        "--protocol", action="append", metavar="NAME", help="repeat for several; 'all' for all"
    )
    group.add_argument("--quick", action="store_true", help="the protocol's small subset of cases")
    group.add_argument(
        "--baselines",
        action="store_true",
        help="also Adam on multiscale gradient NCC (as xvr), Powell and CMA-ES, on the same cases",
    )
    group.add_argument(
        "--method",
        action="append",
        metavar="METHOD",
        help="instead: ours, ours-no-start (its starts are the regressor's), adam, powell, cma-es; "
        "repeat",
    )
    group.add_argument(
        "--checkpoint",
        metavar="WEIGHTS",
        help="of ours-no-start: regressor.json of 'train' (default: the package's)",
    )
    group.add_argument("--config", metavar="YAML", help="configuration of the registration")
    group.add_argument("--device", default="cpu", metavar="DEVICE", help="of ours; default: cpu")
    group.add_argument("--jobs", type=int, metavar="N", help="processes; default: one per core")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="of each; default: 1")
    group.add_argument(
        "--cluster", metavar="ADDRESS", help="workers of a Dask scheduler, tcp://host:port"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the protocols; 0 when all cases have results, 1 when a method broke in some.

    Raises:
        InputError: an unknown protocol or method, data missing, a folder that cannot be written.
    """
    from xray_registration.evaluation.protocol import load_protocol, protocol_names

    names = arguments.protocol
    if "all" in names:
        names = [*(n for n in names if n != "all"), *protocol_names()]
    protocols = [load_protocol(name) for name in dict.fromkeys(names)]
    options = _options(arguments)
    defects = 0
    for protocol in protocols:
        out = Path(arguments.out or f"evaluation_{protocol.name}")
        folder = out / protocol.name if arguments.out and len(protocols) > 1 else out
        make_folder(folder, "--out")
        defects += _run_one(protocol, options, folder)
    return 1 if defects else 0


def _options(arguments: argparse.Namespace) -> RunOptions:
    from xray_registration.evaluation.environment import available_cores
    from xray_registration.evaluation.methods import BASELINES, OURS
    from xray_registration.evaluation.runner import RunOptions
    from xray_registration.registration import RegistrationConfig

    config = None
    if arguments.config is not None:
        data = read_yaml_mapping(Path(arguments.config))
        config = RegistrationConfig.from_dict(data, source=arguments.config)
    checkpoint = None
    if arguments.checkpoint is not None:
        checkpoint = Path(arguments.checkpoint).resolve()
    methods = tuple(arguments.method or ((OURS, *BASELINES) if arguments.baselines else (OURS,)))
    return RunOptions(
        quick=arguments.quick,
        methods=tuple(dict.fromkeys(methods)),
        config=config,
        device=arguments.device,
        checkpoint=checkpoint,
        jobs=available_cores() if arguments.jobs is None else arguments.jobs,
        threads=arguments.threads,
        cluster=arguments.cluster,
    )


def _run_one(protocol: Protocol, options: RunOptions, folder: Path) -> int:
    """Run, write, say; how many cases a method broke in."""
    from xray_registration.evaluation.environment import environment
    from xray_registration.evaluation.methods import OURS
    from xray_registration.evaluation.report import WORST_CASES, Run, summary_text, write_report
    from xray_registration.evaluation.runner import make_job, run_protocol
    from xray_registration.evaluation.summary import summarise
    from xray_registration.evaluation.worker import cases_of, method_settings
    from xray_registration.evaluation.worst_cases import choose_worst, draw_worst

    records = run_protocol(protocol, options, folder)
    tables = summarise(protocol, records)
    job = make_job(protocol, options)
    targets, cases = cases_of(job)
    main = OURS if OURS in options.methods else options.methods[0]
    worst = choose_worst([r for r in records if r["method"] == main], WORST_CASES)
    finished = Run(
        protocol=protocol,
        quick=options.quick,
        records=records,
        tables=tables,
        environment=environment(),
        command="xray-registration " + shlex.join(sys.argv[1:]),
        targets=targets.description,
        settings={name: method_settings(job, name) for name in options.methods},
    )
    path = write_report(folder, finished, draw_worst(protocol, cases, worst))
    print(summary_text(tables))
    print(f"\n{path}\n")
    return sum(len(table["defects"]) for table in tables["methods"].values())


def accepts(arguments: argparse.Namespace) -> bool:
    """Whether a protocol was named."""
    return bool(arguments.protocol)


def misplaced(arguments: argparse.Namespace) -> list[str]:
    """Options of protocols that were given without one."""
    given: dict[str, Any] = {
        "--quick": arguments.quick,
        "--baselines": arguments.baselines,
        "--method": arguments.method,
        "--checkpoint": arguments.checkpoint,
        "--config": arguments.config,
        "--jobs": arguments.jobs,
        "--cluster": arguments.cluster,
    }
    return [name for name, value in given.items() if value]
