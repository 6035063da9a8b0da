"""inference.sh over HTTP. Knows nothing of MCP."""
