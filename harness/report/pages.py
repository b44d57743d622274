"""The pages of templates/."""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2


@cache
def template(name: str) -> jinja2.Template:
    """A page of templates/, which may include others of them."""
    loader = jinja2.FunctionLoader(
        lambda part: resources.files("harness.report").joinpath(f"templates/{part}").read_text(encoding="utf-8")
    )
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=loader, **options).get_template(name)
