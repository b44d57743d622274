"""The readme with absolute links, as the package index needs it; all other metadata are in pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent


def absolute(text: str, repository: str) -> str:
    """Markdown whose pictures and links into the project lead to its repository."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({repository}/{kind}/main/{found['path']})"

    return re.sub(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!\w+:|#)(?P<path>[^)\s]+)\)", link, text)


if __name__ == "__main__":  # so the build runs it; the tests import it, without setuptools
    from setuptools import setup

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (ROOT / "README.md").read_text("utf-8")
    setup(long_description=absolute(readme, project["urls"]["Homepage"]), long_description_content_type="text/markdown")
