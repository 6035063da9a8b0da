"""The bridge from inference.sh to every MCP host."""

__version__ = "0.1.0"
