"""The pages of templates/."""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2


@cache
def template(name: str, package: str = "harness.report") -> jinja2.Template:
    """The template of a page in a package; a template can include other templates of the package."""
    loader = jinja2.FunctionLoader(
        lambda part: resources.files(package).joinpath(f"templates/{part}").read_text(encoding="utf-8")
    )
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=loader, **options).get_template(name)
