"""The MCP tasks extension, for clients that declare it."""
