"""inference.sh over HTTP. Knows nothing of MCP."""

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import File, RunRequest, Session, Task
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.api.transport import Download, Transport

__all__ = ["Api", "AppRef", "Download", "File", "RunRequest", "Session", "Task", "Transport"]
