"""What mkdocs does to a finished page: short words of code stay whole, such as an option."""

from __future__ import annotations

import re

_SHORT = re.compile(r"<code>([^<]{1,20})</code>")


def on_page_content(html: str, **_: object) -> str:
    """Mark them for assets/site.css: browsers would break `--output` behind its dashes."""
    return _SHORT.sub(r'<code class="wy-word">\1</code>', html)
