"""The parts of `--help` other than options: groups of commands, examples, and the types of values in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperGroup

GROUPS = {
    "Measure": ("run", "resume", "throughput", "ab", "models", "engines"),
    "Look at results": ("show", "estimate", "list", "report", "chart", "query", "schema"),
    "Make it faster": ("tune", "verify-masks", "cellpose"),
    "Compare and watch": ("compare", "alarms", "accept", "tag", "history", "index", "schedule"),
    "This machine and a fleet": ("doctor", "checkup", "env", "node", "slurm", "cloud"),
    "Keep results": ("merge", "compact", "export", "import", "anonymise"),
    "Publish results": ("submit", "collect", "site"),
}
EXAMPLES = {
    "run": ("cellbench run", "cellbench run --image my.tif --crops 512,full --blocks 3",
            "cellbench run --profile article --dry-run"),
    "resume": ("cellbench resume", "cellbench resume RUN --retry-failed"),
    "throughput": (
        "cellbench throughput --folder plates/today --auto",
        "cellbench throughput --folder plates/today --processes 1,2,4 --variants stock,lossless",
    ),
    "ab": ("cellbench ab stock lossless --crop 448", "cellbench ab before after --python-a old/bin/python "
           "--python-b new/bin/python"),
    "models": ("cellbench models",),
    "engines install": ("cellbench engines install cellpose4",),
    "engines list": ("cellbench engines list",),
    "engines check": ("cellbench engines check cellpose4",),
    "engines remove": ("cellbench engines remove cellpose4",),
    "show": ("cellbench show", "cellbench show --run RUN --wide", "cellbench show --stages"),
    "estimate": ("cellbench estimate 500 --size 2160x2560",
                 "cellbench estimate 10000 --size 1024 --price cuda:0=2.50 --price cpu=0.10"),
    "list": ("cellbench list",),
    "report": ("cellbench report --open", "cellbench report --run RUN --to report.html"),
    "chart": ("cellbench chart time --to figure.svg",),
    "query": ("cellbench query --list", "cellbench query fastest-device",
              'cellbench query "SELECT node, device, crop, median_s FROM medians"'),
    "schema": ("cellbench schema samples",),
    "tune": ("cellbench tune --crop 448 --budget 10m",
             "cellbench tune --image my.tif --device cuda --gate equivalent"),
    "verify-masks": ("cellbench verify-masks --image my.tif --crop full --variant lossless+winograd",),
    "cellpose": ("cellbench cellpose --dir images --save_tif --verbose",
                 "cellbench cellpose --engine cellpose4 --dir images", "cellbench cellpose -- --help"),
    "compare": ("cellbench compare previous latest", "cellbench compare node=desk node=mac --fail-on slower"),
    "alarms": ("cellbench alarms", "cellbench alarms --all --fail-on-alarm"),
    "accept": ('cellbench accept NAME --why "new driver"',),
    "tag": ("cellbench tag latest before-update",),
    "history": ("cellbench history",),
    "index": ("cellbench index",),
    "schedule install": ("cellbench schedule install --profile quick",),
    "schedule show": ("cellbench schedule show",),
    "schedule run-now": ("cellbench schedule run-now",),
    "schedule remove": ("cellbench schedule remove",),
    "slurm submit": ("cellbench slurm submit --partitions gpu-a100,gpu-l40,cpu --profile article",
                     "cellbench slurm submit --partitions cpu,gpu/gpu:a100 --sbatch '--account=lab' --dry-run"),
    "doctor": ("cellbench doctor", "cellbench doctor --python ~/napari/bin/python"),
    "checkup": ("cellbench checkup", "cellbench checkup --dry-run"),
    "env": ("cellbench env --device cpu",),
    "node start": ("cellbench node start --head", "cellbench node start --address HOST:6379"),
    "node stop": ("cellbench node stop",),
    "node status": ("cellbench node status",),
    "node token": ("cellbench node token",),
    "node install": ("cellbench node install --head",),
    "node uninstall": ("cellbench node uninstall",),
    "cloud plan": ("cellbench cloud plan clusters/aws.yaml --types t4,l4 --price t4=0.20 --price l4=0.35",
                   "cellbench cloud plan clusters/aws.yaml --budget 20"),
    "merge": ("cellbench merge /media/stick/results",),
    "anonymise": ("cellbench anonymise --to shared",),
    "submit": ("cellbench submit --dry-run", "cellbench submit RUN --to submission"),
    "collect": ("cellbench collect submission", "cellbench collect results/reference --json"),
    "site": ("cellbench site --to public",),
    "compact": ("cellbench compact",),
    "export": ("cellbench export --to all.parquet",),
    "import": ("cellbench import theirs.csv --node their-desktop --date 2024-08-31",),
}  # fmt: skip
# The word for a value in the list of options.
VALUES = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


def _value(kind: Any) -> str | None:
    """The word for a value of this kind: X, X | None or list[X]."""
    return VALUES.get(kind) or next(filter(None, map(_value, get_args(kind))), None)


class Group(TyperGroup):
    """Commands, those of the program itself in groups; each command's help ends with its examples."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None; its options name the type of their values in words."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            return None
        kinds = get_type_hints(found.callback) if found.callback else {}
        for option in found.params:
            if option.param_type_name == "argument":
                option.metavar = option.metavar or option.name.upper()
            elif option.metavar is None and not getattr(option, "is_flag", True):
                option.metavar = _value(kinds.get(option.name))
        path = f"{ctx.command_path} {cmd_name}".partition(" ")[2]
        if path in EXAMPLES:
            found.epilog = "\n  ".join(("\b\nExamples:", *EXAMPLES[path]))
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, those of the program in groups."""
        groups = GROUPS if ctx.parent is None else {"Commands": tuple(self.list_commands(ctx))}
        for title, names in groups.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                listed = [(name, each.get_short_help_str(80)) for name, each in found if not each.hidden]
                formatter.write_dl(listed)
