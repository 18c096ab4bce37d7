"""The MCP client: servers as a live list of tools."""
