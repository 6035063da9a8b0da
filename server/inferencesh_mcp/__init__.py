"""The MCP server that runs inference.sh apps for every host."""

__version__ = "0.1.0"
