"""Chat templates with tools, and with thoughts, spelt as Hermes and Qwen spell them, and servers of models that read
them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripted import Script, scripted

from paddock.serve.server import Server
from paddock.serve.settings import Settings

SOURCE = """\
{%- if tools %}
{{- 'Tools: ' }}
{%- for tool in tools %}{{- tool.function | tojson }}{%- endfor %}
{{- '\\n' }}
{%- endif %}
{%- for message in messages %}
{{- message.role ~ ': ' }}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' }}
{{- '{"name": "' ~ call.function.name ~ '", "arguments": ' ~ call.function.arguments | tojson ~ '}' }}
{{- '</tool_call>' }}
{%- endfor %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'assistant: ' }}
{%- endif %}
"""
THINKING = (
    SOURCE
    + """\
{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking %}
{{- '<think></think>' }}
{%- endif %}
"""
)


@contextmanager
def server_with_tools(folder: Path, source: str = SOURCE) -> Iterator[tuple[Server, Script]]:
    """A server of the bundled model, and of one that writes what the script says."""
    path = folder / "tools.jinja"
    path.write_text(source)
    server = Server(Settings(template=str(path)))
    server.open()
    try:
        yield server, scripted(server)[0]
    finally:
        server.close()
