"""`nllb slurm submit | status | logs | cancel | retry | wait`."""

import argparse
import contextlib
import io
import shlex
import subprocess
import sys
from collections.abc import Sized
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nllb.config import find_config, load_config
from nllb.errors import ConfigError
from nllb.io.text import json_line
from slurm.cluster import ClusterConfig
from slurm.run_graph import retry_run
from slurm.status import TaskReport, cancel_run, count_states, follow_logs, report
from slurm.status import wait as wait_for
from slurm.submission import plan_command
from slurm.tasks import RunDirectory, resolve_program

from . import parse
from .stage_flags import quiet_argument

TABLE_COLUMNS = ("task", "state", "job", "reason", "exit", "requeues", "elapsed", "host")


def submit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "nllb slurm submit CLUSTER [OPTION...] -- COMMAND..."
    parser.add_argument(
        "cluster",
        metavar="CLUSTER",
        help="a path, or the name of a shipped configuration of kind slurm",
    )
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="folder of the run; default: runs/NAME-TIME"
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of the job; default: the verb of the command"
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=0,
        metavar="N",
        help="submit an array of N jobs, which run the command with --shard 1/N to --shard N/N",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch script and stop")
    parser.add_argument("--json", action="store_true", help="print the submission as JSON")
    quiet_argument(parser)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the command, after `--`")


def submit(arguments: argparse.Namespace) -> int:
    _check_command(arguments.command, shards=arguments.shards)
    plan = plan_command(
        arguments.command,
        load_config(ClusterConfig, arguments.cluster),
        run_dir=arguments.run_dir,
        name=arguments.name,
        shards=arguments.shards,
    )
    cost = f"at most {plan.gpu_hours:,.1f} GPU-hours" if plan.gpu_hours else "no GPU"
    if arguments.dry_run:
        print(plan.script())
        print(f"# {_count(plan.tasks)}, {cost}; the first command:")
        print(f"# {plan.tasks[0].describe()}")
        return 0
    for warning in plan.warnings():
        print(f"nllb: warning: {warning}", file=sys.stderr)
    job_ids = plan.submit()
    path = str(plan.run.path)
    if arguments.json:
        print(json_line({"run_dir": path, "job_ids": job_ids, "gpu_hours": plan.gpu_hours}))
    elif not arguments.quiet:
        shown = ", ".join(dict.fromkeys(job_ids)) or "none"
        print(f"submitted {_count(job_ids)} as {shown}, {cost}")
        print(f"logs: {plan.run.logs}")
        print(f"To follow them: nllb slurm logs {shlex.quote(path)} -f")
    return 0


def _count(tasks: Sized) -> str:
    return "1 task" if len(tasks) == 1 else f"{len(tasks):,} tasks"


def _check_command(command: list[str], *, shards: int) -> None:
    """Reject an nllb command that cannot be parsed or whose own `--dry-run` fails."""
    if command[0] != "nllb":
        return
    shard = ["--shard", f"1/{shards}"] if shards else []
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            parsed = parse([*command[1:], *shard])
    except SystemExit:
        raise ConfigError(f"the command cannot run: {messages.getvalue().strip()}") from None
    if not hasattr(parsed, "dry_run") and "config" in parsed:
        find_config(parsed.config)
    if hasattr(parsed, "dry_run"):
        trial = [*resolve_program(command), *shard, "--dry-run"]
        done = subprocess.run(trial, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigError(f"the command cannot run:\n{done.stderr.strip()}")


def run_dir_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="the directory that `slurm submit` printed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per task")


def status_arguments(parser: argparse.ArgumentParser) -> None:
    run_dir_arguments(parser)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="refresh until all tasks have ended"
    )


def status(arguments: argparse.Namespace) -> int:
    run = RunDirectory.open(arguments.run_dir)
    if arguments.follow:
        with Live(console=Console(), refresh_per_second=1) as live:
            for rows in wait_for(run):
                live.update(_table(rows))
        return _exit_code(rows)
    rows = report(run)
    _show(rows, as_json=arguments.json)
    return _exit_code(rows)


wait_arguments = run_dir_arguments


def wait(arguments: argparse.Namespace) -> int:
    printed = ""
    for rows in wait_for(RunDirectory.open(arguments.run_dir)):
        if count_states(rows) != printed:
            printed = count_states(rows)
            print(printed, file=sys.stderr, flush=True)
    _show(rows, as_json=arguments.json)
    return _exit_code(rows)


def logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="the directory that `slurm submit` printed"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="continue until all tasks have ended"
    )
    parser.add_argument("--task", metavar="KEY", help="print only the log of this task")


def logs(arguments: argparse.Namespace) -> int:
    run = RunDirectory.open(arguments.run_dir)
    if arguments.follow:
        for key, line in follow_logs(run):
            if arguments.task in {None, key}:
                print(f"{key}: {line}", flush=True)
        return _exit_code(report(run))
    for row in report(run):
        if arguments.task in {None, row.key} and Path(row.log).is_file():
            print(f"==> {row.key}: {row.log} <==")
            print(Path(row.log).read_text(encoding="utf-8", errors="replace"), end="")
    return 0


cancel_arguments = run_dir_arguments


def cancel(arguments: argparse.Namespace) -> int:
    ended = cancel_run(RunDirectory.open(arguments.run_dir))
    text = f"cancelled: {', '.join(ended)}" if ended else "no job is waiting or running"
    print(json_line(ended) if arguments.json else text)
    return 0


retry_arguments = run_dir_arguments


def retry(arguments: argparse.Namespace) -> int:
    run = RunDirectory.open(arguments.run_dir)
    tasks = retry_run(run, say=_print_message)
    keys = {task.key for task in tasks}
    active = sorted(row.key for row in report(run) if row.active and row.key not in keys)
    shown = {"submitted": [task.key for task in tasks], "active": active}
    print(json_line(shown) if arguments.json else f"submitted {_count(tasks)} again")
    return 0


def _print_message(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _exit_code(rows: list[TaskReport]) -> int:
    bad = [row for row in rows if row.state != "COMPLETED" and not row.active]
    return 1 if any(row.state != "WAITING" for row in bad) else 0


def _show(rows: list[TaskReport], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json_line(asdict(row)))
    else:
        Console().print(_table(rows))
        print(count_states(rows))


def _table(rows: list[TaskReport]) -> Table:
    table = Table(title=count_states(rows))
    for title in TABLE_COLUMNS:
        table.add_column(title)
    for row in rows:
        elapsed = "" if row.elapsed_s is None else f"{row.elapsed_s:,.0f} s"
        code = "" if row.exit_code is None else str(row.exit_code)
        cells = (row.key, row.state, row.job_id, row.reason)
        table.add_row(*cells, code, str(row.requeues), elapsed, row.host)
    return table
