"""An app's JSON Schema and its readers.

`refs` resolves references for all of them. `validate` checks an input, `describe` puts a schema into words, `file_fields`
finds the files in an input, and `tool_schema` compiles a schema for hosts.
"""
