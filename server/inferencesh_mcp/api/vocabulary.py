"""The platform's own words for states and kinds, as types. Sources: npm `@inferencesh/sdk` 0.6.10 and 0.6.54, PyPI 0.36.0.

These are the words that are known, for whoever writes a request or reads the code. What the API answers is never held to
them: a word that is not here is shown as it came.
"""

from __future__ import annotations

from typing import Literal, get_args

TaskStatusName = Literal[
    "unknown", "received", "queued", "dispatched", "preparing", "serving", "setting_up",
    "running", "cancelling", "uploading", "completed", "failed", "cancelled", "rejected",
]  # fmt: skip
TaskLogTypeName = Literal["build", "run", "serve", "setup", "task"]
Infra = Literal["cloud", "private", "private_first", "remote"]
AppSessionStatus = Literal["active", "ended", "expired"]
Visibility = Literal["private", "team", "org", "public", "unlisted"]
AppCategory = Literal["image", "video", "audio", "text", "chat", "3d", "other", "flow", "decision"]
AppStatus = Literal["active", "maintenance", "deprecated", "retired"]
FunctionKind = Literal["run", "stream"]
ContentRating = Literal[
    "safe", "sexual_suggestive", "sexual_explicit", "violence_non_graphic", "violence_graphic", "gore", "unrated"
]
RequirementType = Literal["secret", "integration", "credential", "scope"]
SetupActionType = Literal["add_secret", "connect", "add_scopes"]

ChatStatusName = Literal["busy", "idle", "awaiting_input", "completed", "waiting"]
ChatMessageStatus = Literal["pending", "queued", "ready", "failed", "cancelled"]
ChatMessageRole = Literal["system", "user", "assistant", "tool", "injection", "compaction", "event"]
ChatMessageContentType = Literal["text", "reasoning", "image", "file", "tool", "event"]
ToolInvocationStatus = Literal[
    "pending", "in_progress", "awaiting_input", "awaiting_approval", "waiting", "completed", "failed", "cancelled"
]
ToolType = Literal["app", "agent", "hook", "http", "call", "mcp", "client", "internal", "harness"]
ToolAuthType = Literal["none", "integration", "credential", "api_key", "bearer"]
ToolParamType = Literal["object", "string", "integer", "number", "boolean", "array", "null"]
AgentRunState = Literal[
    "submitted", "working", "input_required", "auth_required", "completed", "failed", "canceled", "rejected"
]
InterruptReason = Literal["tool_approval", "client_tool", "widget", "auth", "confirmation", "hook_gate", "wait"]
InterruptStatus = Literal["pending", "resolved", "expired", "cancelled"]
InterruptResolution = Literal["allow", "deny"]
InterruptResourceType = Literal["tool_invocation", "hook_event", "turn"]
PlanStepStatus = Literal["pending", "in_progress", "completed", "cancelled"]
InternalToolName = Literal[
    "plan", "memory", "widget", "finish", "skills", "host_context", "meta", "artifact", "spawn",
    "agent", "remote", "knowledge", "wait",
]  # fmt: skip

IntegrationProvider = Literal[
    "google", "slack", "notion", "github", "x", "microsoft", "salesforce", "discord", "gcp", "mcp", "reddit"
]
IntegrationAuthType = Literal["service_account", "oauth", "api_key", "wif", "mcp"]
CredentialStatus = Literal["pending", "connected", "disconnected", "expired", "error"]
IntegrationType = Literal["slack", "discord", "teams", "telegram"]

InstanceStatus = Literal["creating", "pending_provider", "pending", "active", "error", "deleting", "deleted"]
InstanceTypeDeploymentType = Literal["vm", "container", "baremetal"]
InstanceCloudProvider = Literal[
    "aws", "amaya", "azure", "boostrun", "crusoe", "datacrunch", "denvr", "digitalocean", "excesssupply", "horizon",
    "hyperstack", "imwt", "jarvislabs", "lambdalabs", "latitude", "massedcompute", "nebius", "oblivus", "paperspace",
    "phyntec", "runpod", "scaleway", "shade", "tensordock", "verda", "voltagepark", "vultr",
]  # fmt: skip
EngineStatus = Literal["running", "pending", "draining", "disconnected", "restarting", "stopping", "stopped"]
WorkerStatus = Literal["reserved", "busy", "idle", "inactive"]
GPUType = Literal["any", "none", "intel", "nvidia", "amd", "apple"]

WidgetNodeType = Literal[
    "text", "markdown", "image", "badge", "button", "input", "select", "checkbox", "row", "col", "box", "spacer",
    "divider", "form", "title", "caption", "label", "textarea", "radio-group", "date-picker", "icon", "chart",
    "transition", "plan-list", "key-value", "status-badge",
]  # fmt: skip
A2UIComponentType = Literal[
    "Row", "Column", "List", "Text", "Image", "Icon", "Divider", "Button", "TextField", "CheckBox", "Slider",
    "DateTimeInput", "ChoicePicker", "Card", "Modal", "Tabs", "Badge", "Spacer", "Chart", "Form", "Artifact", "McpApp",
]  # fmt: skip

INTEGRATION_PROVIDERS: tuple[IntegrationProvider, ...] = get_args(IntegrationProvider)
TOOL_TYPES: tuple[ToolType, ...] = get_args(ToolType)
