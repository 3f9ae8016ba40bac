"""`nllb slurm submit | status | logs | cancel | retry | wait`."""

import argparse
import contextlib
import io
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nllb.cli import parse
from nllb.cli.stage_flags import quiet_argument
from nllb.config import find_config, load_config, write_config
from nllb.errors import ConfigError
from nllb.io.text import json_line
from slurm.cluster import ClusterConfig
from slurm.status import TaskReport, count_states, follow_logs, report
from slurm.status import wait as wait_for
from slurm.submission import check, sbatch_script
from slurm.submission import submit as submit_tasks
from slurm.tasks import RunDirectory, resolve_program, shard_tasks


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
        "--name", metavar="NAME", help="name of the job; default: the command's verb"
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=0,
        metavar="N",
        help="an array of N jobs: the command with --shard 1/N to --shard N/N",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch script and stop")
    parser.add_argument("--json", action="store_true", help="print what was submitted as JSON")
    quiet_argument(parser)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, behind `--`")


def submit(arguments: argparse.Namespace) -> int:
    command = arguments.command
    cluster = load_config(ClusterConfig, arguments.cluster)
    _check_command(command, shards=arguments.shards)
    name = arguments.name or _default_name(command)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run = RunDirectory(arguments.run_dir or Path("runs") / f"{name}-{stamp}")
    tasks = shard_tasks(
        command,
        name=name,
        cwd=Path.cwd(),
        shards=arguments.shards,
        num_ranks=cluster.num_tasks,
    )
    cost = cluster.gpu_hours(len(tasks))
    line = f"at most {cost:,.1f} GPU-hours" if cost else "no GPU"
    if arguments.dry_run:
        print(sbatch_script(run, tasks, cluster, name=name))
        print(f"# {len(tasks)} task{'s' if len(tasks) > 1 else ''}, {line}; the first command:")
        print(f"# {tasks[0].describe()}")
        return 0
    for warning in check(cluster, run):
        print(f"nllb: warning: {warning}", file=sys.stderr)
    run.add_tasks(tasks)
    write_config(cluster, run.path / "cluster.yaml")
    job_ids = submit_tasks(run, run.missing(tasks), cluster, name=name)
    if arguments.json:
        print(json_line({"run_dir": str(run.path), "job_ids": job_ids, "gpu_hours": cost}))
    elif not arguments.quiet:
        shown = ", ".join(dict.fromkeys(job_ids)) or "none"
        print(f"submitted {len(job_ids)} task(s) as {shown}, {line}")
        print(f"logs: {run.logs}\nfollow: nllb slurm logs {run.path} -f")
    return 0


def _check_command(command: list[str], *, shards: int) -> None:
    """Refuse a command of ours that cannot be parsed, or whose own `--dry-run` fails."""
    if command[0] != "nllb":
        return
    shard = ["--shard", f"1/{shards}"] if shards else []
    spoken = io.StringIO()
    try:
        with contextlib.redirect_stderr(spoken):
            parsed = parse([*command[1:], *shard])
    except SystemExit:
        raise ConfigError(f"the command cannot run: {spoken.getvalue().strip()}") from None
    if not hasattr(parsed, "dry_run") and "config" in parsed:
        find_config(parsed.config)
    if hasattr(parsed, "dry_run"):
        trial = [*resolve_program(command), *shard, "--dry-run"]
        done = subprocess.run(trial, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigError(f"the command cannot run:\n{done.stderr.strip()}")


def run_dir_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="what `slurm submit` printed")
    parser.add_argument("--json", action="store_true", help="one JSON object a task")


def status_arguments(parser: argparse.ArgumentParser) -> None:
    run_dir_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="refresh until all has ended")


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
    said = ""
    for rows in wait_for(RunDirectory.open(arguments.run_dir)):
        if count_states(rows) != said:
            said = count_states(rows)
            print(said, file=sys.stderr, flush=True)
    _show(rows, as_json=arguments.json)
    return _exit_code(rows)


def logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="what `slurm submit` printed")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until all has ended")
    parser.add_argument("--task", metavar="KEY", help="only this task's log")


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
    from slurm.status import cancel_run

    ended = cancel_run(RunDirectory.open(arguments.run_dir))
    print(
        json_line(ended) if arguments.json else f"cancelled: {', '.join(ended) or 'nothing runs'}"
    )
    return 0


retry_arguments = run_dir_arguments


def retry(arguments: argparse.Namespace) -> int:
    run = RunDirectory.open(arguments.run_dir)
    cluster = load_config(ClusterConfig, run.path / "cluster.yaml")
    active = {row.key for row in report(run) if row.active}
    tasks = [task for task in run.missing(run.tasks()) if task.key not in active]
    job_ids = submit_tasks(run, tasks, cluster, name="retry") if tasks else []
    shown = {
        "submitted": [task.key for task in tasks],
        "job_ids": job_ids,
        "active": sorted(active),
    }
    print(json_line(shown) if arguments.json else f"submitted {len(tasks)} task(s) again")
    return 0


def _default_name(command: list[str]) -> str:
    words = [Path(word).name for word in command[:3] if not word.startswith("-")]
    verb = words[1:] if words[0] == "nllb" else words
    return "-".join(
        verb[: 2 if words[0] == "nllb" and verb[:1] in (["data"], ["lid"], ["eval"]) else 1]
    )


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
    for title in ("task", "state", "job", "reason", "exit", "requeues", "elapsed", "host"):
        table.add_column(title)
    for row in rows:
        elapsed = "" if row.elapsed_s is None else f"{row.elapsed_s:,.0f} s"
        code = "" if row.exit_code is None else str(row.exit_code)
        cells = (
            row.key,
            row.state,
            row.job_id,
            row.reason,
            code,
            str(row.requeues),
            elapsed,
            row.host,
        )
        table.add_row(*cells)
    return table
