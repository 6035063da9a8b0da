"""An app's JSON Schema and its readers.

`refs` resolves references for all of them. `validate` checks an input, `describe` puts a schema into words, `file_fields`
finds the files in an input, and `tool_schema` compiles a schema for hosts (`parse` reads it into `ir`, `emit` writes it).
"""

from __future__ import annotations

from inferencesh_mcp.schema.tool_schema import Compiled, compiled_input, compiled_output, tool_name

__all__ = ["Compiled", "compiled_input", "compiled_output", "tool_name"]
