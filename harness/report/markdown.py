"""A report as Markdown for a comment or an issue: headline, cautions, answers, cases, differences and commands."""

from __future__ import annotations

from harness import markdown
from harness.report import narrative, report_tables
from harness.report.html_report import Report, without_figure
from harness.results import differences
from harness.results.text_table import TextTable

N_CASES = 40  # the most rows of a table, since comments have a maximum length


def text(report: Report) -> str:
    """The report with the texts of the page, without its figures."""
    data = report.data
    lines = [f"### {markdown.escaped(report.headline)}", "", markdown.escaped(report.scope.title), ""]
    lines += [f"> {markdown.escaped(banner)}  " for banner in report.banners] + [""]
    for answer in report.answers:
        lines += [f"**{answer.question}** {markdown.escaped(' '.join(answer.sentences))}", ""]
    if data.cases:
        lines += [*_table(report_tables.cases(data), N_CASES), ""]
        lines += [line for note in narrative.case_notes(data) for line in (markdown.escaped(note), "")]
    for caption, table in without_figure(data).items():
        lines += [caption, "", *_table(table, N_CASES), ""]
    if data.failures.num_rows:
        lines += [
            "<details><summary>Failures</summary>",
            "",
            *_table(report_tables.failures(data), N_CASES),
            "",
            "</details>",
            "",
        ]
    lines += [markdown.escaped(report.differing), ""]
    if found := differences.differing(report.facts):
        shown = report_tables.environment(report.places, found)
        lines += ["<details><summary>What differs</summary>", "", *_table(shown, N_CASES), "", "</details>", ""]
    for command in report.commands:
        lines += ["```sh", command.replace("`", "'"), "```"]
    return "\n".join(lines) + "\n"


def _table(table: TextTable, most: int) -> list[str]:
    """The lines of a pipe table with at most this many rows; the first column has the headings of groups."""
    grouped = any(table.groups)
    head = ["", *table.head] if grouped else list(table.head)
    rows = [([name, *row] if grouped else list(row)) for name, found in table.groups.items() for row in found]
    shown = ([markdown.escaped(cell) for cell in row] for row in rows[:most])
    numeric = range(table.n_labels + grouped, len(head))
    lines = [*markdown.table(list(map(markdown.escaped, head)), shown, numeric)]
    return lines if len(rows) <= most else [*lines, "", f"and {len(rows) - most} more rows"]
