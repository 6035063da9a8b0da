"""MCP over HTTP: the ASGI application, who may call it, and the server that runs it."""
