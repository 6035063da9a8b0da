"""The least that an MCP server on the same SDK can be: one tool, nothing else. What the bridge's start is held against."""

from mcp.server import MCPServer

server = MCPServer("bare")


@server.tool()
async def echo(text: str) -> str:
    return text


if __name__ == "__main__":
    server.run()
