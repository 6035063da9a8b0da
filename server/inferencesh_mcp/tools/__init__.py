"""The MCP skin: a signature, a description, the hints, one call to a flow, one to show how it ended."""
