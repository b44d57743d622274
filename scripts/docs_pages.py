"""Collect the pages of the documentation site: docs/, README and the like, and pages generated from the code.

python scripts/docs_pages.py --to build/docs      (scripts/docs calls it)
python scripts/docs_pages.py --requirements       prints the packages that build the site
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import tomllib
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).parent.parent
# Pages of the project's top folder: their names on the site.
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
BOX = r"(\w+)(?:\[([^\]]*)\])?"
ARROW = re.compile(r"\s*(?:<?--\s*(?:\"[^\"]*\"|[^->]+?)\s*-->|<?-->)\s*")
CHARACTER_PX, LINE_PX, GAP_PX = 7.5, 34, 24


def main() -> None:
    """Write the pages, or print the requirements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--requirements", action="store_true")
    args = parser.parse_args()
    if args.requirements:
        print("\n".join(requirements()))
    else:
        write(args.to)


def requirements() -> list[str]:
    """The packages of the extra `docs`."""
    return project()["optional-dependencies"]["docs"]


def project() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def write(to: Path) -> None:
    """Replace a folder with all pages of the site."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(ROOT / "docs", to, ignore=shutil.ignore_patterns("*.csv"))
    for name, text in pages().items():
        (to / name).write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """All pages of the site by name, as Markdown."""
    written = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    top = {name: (ROOT / path).read_text("utf-8") for path, name in TOP.items()}
    generated = {"commands.md": commands(), "profile.md": profile(), "api.md": interface()}
    return {name: on_site(text) for name, text in {**written, **top}.items()} | generated


def on_site(text: str) -> str:
    """A page with the links and pictures of the site: README is its index, docs/ its folder."""
    repository = project()["urls"]["Homepage"]

    def link(found: re.Match[str]) -> str:
        path, hash_, anchor = found[1].partition("#")
        bare = path.removeprefix("../").removeprefix("docs/")
        if re.match(r"\w+:", path) or not path:
            return found[0]
        if bare in TOP:
            return f"]({TOP[bare]}{hash_}{anchor})"
        if (ROOT / "docs" / bare).exists():
            return f"]({bare}{hash_}{anchor})"
        return f"]({repository}/blob/main/{bare}{hash_}{anchor})"

    text = re.sub(r"\]\(([^)\s]+)\)", link, text)
    return re.sub(r"^```mermaid\n(.*?)^```$", lambda found: diagram(found[1]), text, flags=re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------ generated pages


def commands() -> str:
    """The reference of the command line."""
    from harness.cli.app import app
    from harness.cli.help import EXAMPLES

    parts = ["# Commands", "Generated from the program; `cellbench COMMAND --help` prints the same."]
    for path, command in _commands(typer.main.get_command(app)):
        description = inspect.cleandoc(command.help or "").split("\f")[0]
        parts += [f"## cellbench {path}", escape(description, quote=False)]
        if examples := EXAMPLES.get(path):
            parts.append("```sh\n" + "\n".join(examples) + "\n```")
        rows = [f"| `{_names(each)}` | {_cell(getattr(each, 'help', '') or '')} | {_default(each)} |"
                for each in command.params if each.name != "help"]  # fmt: skip
        if rows:
            parts.append("\n".join(["| option | meaning | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    with typer.Context(group, info_name=path or "cellbench") as context:
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            full = f"{path} {name}".strip()
            if not found.hidden:
                yield from _commands(found, full) if hasattr(found, "list_commands") else [(full, found)]


def _names(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar)
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if getattr(option, "is_flag", False) else f"{names} {option.metavar or 'TEXT'}"


def _default(option: Any) -> str:
    is_shown = option.default not in (None, False, (), []) and not callable(option.default)
    return f"`{option.default}`" if is_shown and not repr(option.default).startswith("<") else ""


def _cell(text: str) -> str:
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def profile() -> str:
    """The reference of profile files, from the model that reads them."""
    from harness.cli.app import app
    from harness.plan.config import PROFILES, Config

    run = dict(_commands(typer.main.get_command(app)))["run"]
    helps = {each.name: getattr(each, "help", None) for each in run.params}
    comments = _comments(inspect.getsource(Config))
    rows = []
    for name, field in Config.model_fields.items():
        meaning = helps.get(name) or helps.get(name.removesuffix("s")) or comments.get(name) or ""
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        rows.append(f"| `{name}` | {_cell(meaning)} | {_cell(default)} |")
    built_in = [f"## {path.stem}\n\n```toml\n{path.read_text('utf-8')}```" for path in sorted(PROFILES.glob("*.toml"))]
    return "\n\n".join([
        "# Profile file",
        "A profile is a TOML file: `cellbench run --profile my.toml`. Its keys are the flags of `cellbench run`; "
        "a flag overrides the key. Unknown keys are errors.",
        "\n".join(["| key | meaning | default |", "|---|---|---|", *rows]),
        *built_in,
    ]) + "\n"  # fmt: skip


def _comments(source: str) -> dict[str, str]:
    return dict(re.findall(r"^    (\w+): .*  # (.*)$", source, re.MULTILINE))


def interface() -> str:
    """The reference of the public Python names."""
    import cellbench

    parts = ["# Python interface", "`from cellbench import accelerate` is the public interface for scripts."]
    for name in cellbench.__all__:
        found = getattr(cellbench, name)
        lines = inspect.cleandoc(found.__doc__ or "")
        parts += [f"## {name}", f"```python\n{name}{inspect.signature(found)}\n```", escape(lines, quote=False)]
    return "\n\n".join([*parts, "[Make your own script faster](own-script.md) has an example."]) + "\n"


# ------------------------------------------------------------ a diagram without a script


def diagram(text: str) -> str:
    """A Mermaid flow chart of boxes and arrows as SVG; the site loads no script to draw it."""
    labels: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    for line in text.splitlines()[1:]:
        ends = []
        for end in ARROW.split(line.strip()):
            boxes = re.findall(BOX, end)
            labels |= {name: label or labels.get(name, name) for name, label in boxes}
            ends.append([name for name, _ in boxes])
        pairs = [(one, other) for left, right in pairwise(ends) for one in left for other in right]
        edges += [(one, other) for one, other in pairs if (other, one) not in edges]
    rows: dict[str, int] = dict.fromkeys(labels, 0)
    for _ in labels:
        for one, other in edges:
            rows[other] = max(rows[other], rows[one] + 1)
    places: dict[str, tuple[float, float, float]] = {}
    sizes: dict[int, float] = {}
    for row in range(max(rows.values()) + 1):
        left = 8.0
        for name in (name for name in labels if rows[name] == row):
            wide = 16 + CHARACTER_PX * len(labels[name])
            places[name] = (left, 8.0 + row * (LINE_PX + GAP_PX), wide)
            left += wide + GAP_PX
        sizes[row] = left - GAP_PX
    width = max(sizes.values()) + 8
    places = {name: (x + (width - 8 - sizes[rows[name]]) / 2, y, wide) for name, (x, y, wide) in places.items()}
    height = 8 + (max(rows.values()) + 1) * (LINE_PX + GAP_PX)
    lines = [f'<line x1="{places[a][0] + places[a][2] / 2:.0f}" y1="{places[a][1] + LINE_PX:.0f}" '
             f'x2="{places[b][0] + places[b][2] / 2:.0f}" y2="{places[b][1]:.0f}" marker-end="url(#tip)"/>'
             for a, b in edges]  # fmt: skip
    shapes = [f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{LINE_PX}" rx="6"/>'
              f'<text x="{x + wide / 2:.0f}" y="{y + 22:.0f}">{escape(labels[name])}</text>'
              for name, (x, y, wide) in places.items()]  # fmt: skip
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" '
        'aria-label="Flow of data through the program" fill="none" stroke="currentColor">'
        "<style>svg rect{fill:var(--md-default-bg-color)}"
        "svg text{fill:currentColor;stroke:none;font:13px sans-serif;text-anchor:middle}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>' + "".join([*lines, *shapes]) + "</svg>"
    )


if __name__ == "__main__":
    main()
