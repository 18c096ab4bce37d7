"""The bundled MCP server and its tools."""
